"""Where a fault is raised: at once after a call, at the latest where the scope ends."""

import _thread
import ctypes
import gc
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy
import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults, guarded

Action = Callable[[numpy.ndarray, memoryview], object]


@pytest.fixture
def views(shared: bool) -> Iterator[tuple[Region, numpy.ndarray, memoryview]]:
    """Writable views of a Region that is read-only by now."""
    region = Region(4 * PAGE_SIZE, shared=shared)
    array = numpy.asarray(region.array("u1"))  # a plain one, whose statements raise later
    view = memoryview(region)
    array[:] = 7
    region.protect("r--")
    yield region, array, view
    assert region.read() == b"\7" * region.size
    del array
    view.release()
    region.close()


CALLS: dict[str, Action] = {
    "fill": lambda array, view: array.fill(1),
    "copyto": lambda array, view: numpy.copyto(array, 1),
    "ufunc": lambda array, view: numpy.add(array, 1, array),
    "byteswap": lambda array, view: array.view("u8").byteswap(True),
    "setattr": lambda array, view: setattr(array, "flat", [1]),
    "put": lambda array, view: array.put([0, 5], 1),
    "memmove": lambda array, view: ctypes.memmove(array.ctypes.data, b"12345", 5),
    "memset": lambda array, view: ctypes.memset(array.ctypes.data, 1, array.nbytes),
    "pack_into": lambda array, view: struct.pack_into("<QQ", view, 0, 1, 2),
    "setitem": lambda array, view: view.__setitem__(0, 1),
    "put_along_axis": lambda array, view: numpy.put_along_axis(array, numpy.array([1]), 3, 0),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_raises_inside_the_block(views: tuple[Region, numpy.ndarray, memoryview], call: str) -> None:
    _, array, view = views
    action = CALLS[call]
    for _ in range(3):
        with catch_faults() as scope:
            with pytest.raises(FaultError) as caught:
                action(array, view)
            assert caught.value.access == "write"
        assert scope.faults == (caught.value,)


STATEMENTS = {
    "array[5] = 1": 5,
    "array[3:9] = 2": 3,
    "array[:] = 1": 0,
    "array += 1": 0,
    "array.flat[7] = 1": 7,
    "view[5] = 1": 5,
    "view[1:3] = b'ab'": 1,
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_last_statement_that_is_no_call_raises_at_the_scopes_end(
    views: tuple[Region, numpy.ndarray, memoryview], statement: str
) -> None:
    region, array, view = views
    program = f"def act(array, view):\n    with scope:\n        {statement}\n    after.append(1)"
    after: list[int] = []
    for _ in range(3):
        scope = catch_faults()
        names: dict[str, object] = {"scope": scope, "after": after}
        exec(program, names)
        with pytest.raises(FaultError) as caught:
            names["act"](array, view)  # type: ignore[operator]
        assert caught.value.offset == STATEMENTS[statement]
        assert caught.value.region is region
        assert scope.faults == (caught.value,)
    assert after == []


def test_a_scope_without_a_fault_raises_nothing(blocked: Region) -> None:
    with catch_faults() as scope:
        scope.check()
        assert scope.faults == ()
    assert scope.faults == ()
    scope.check()


def test_what_the_block_raises_without_a_fault_stays_what_it_is() -> None:
    for error in (KeyError("x"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()):
        with pytest.raises(type(error)) as caught, catch_faults():
            raise error
        assert caught.value is error


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_the_block_raised_besides_is_the_context(
    views: tuple[Region, numpy.ndarray, memoryview], kind: type[BaseException]
) -> None:
    _, array, _ = views
    error = kind("besides")

    def act() -> None:
        array[0] = 1
        raise error

    with pytest.raises(FaultError) as caught, catch_faults():
        act()
    assert caught.value.__context__ is error


def test_an_interrupt_from_the_keyboard_is_not_lost(misbehave: ModuleType, blocked: Region) -> None:
    with pytest.raises((KeyboardInterrupt, FaultError)) as caught, catch_faults():
        signal.raise_signal(signal.SIGINT)
    assert caught.type is KeyboardInterrupt
    seen: list[type[BaseException]] = []
    scope = catch_faults()
    try:
        with scope:
            try:
                misbehave.write_then_call(blocked.address, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
                time.sleep(5)
            except (KeyboardInterrupt, FaultError) as error:
                seen.append(type(error))
                time.sleep(0)
    except (KeyboardInterrupt, FaultError) as error:
        seen.append(type(error))
    assert FaultError in seen
    assert len(scope.faults) == 1


def test_check_raises_what_happened_so_far(views: tuple[Region, numpy.ndarray, memoryview]) -> None:
    _, array, _ = views
    scope = catch_faults()
    with scope:
        found = []
        try:
            array[1] = 1
            scope.check()
        except FaultError as fault:
            found.append(fault.offset)
        scope.check()
        try:
            array[2] = 1
            scope.check()
        except FaultError as fault:
            found.append(fault.offset)
    assert found == [1, 2]
    assert [fault.offset for fault in scope.faults] == [1, 2]


def test_the_faults_of_one_block_are_raised_together(views: tuple[Region, numpy.ndarray, memoryview]) -> None:
    _, array, _ = views
    with pytest.raises(FaultError) as caught, catch_faults():
        array[2 * PAGE_SIZE], array[0], array[1] = 1, 1, 1
    offsets = [caught.value.offset, *(other.offset for other in caught.value.others)]
    assert offsets == [2 * PAGE_SIZE, 0]  # the third fell on a page that was open by then
    assert all(other.others == () for other in caught.value.others)


def test_faults_found_at_the_end_go_along_with_the_one_under_way(
    views: tuple[Region, numpy.ndarray, memoryview],
) -> None:
    _, array, _ = views
    scope = catch_faults()

    def act() -> None:
        try:
            array.fill(1)
        finally:
            array[PAGE_SIZE] = 1

    with pytest.raises(FaultError) as caught, scope:
        act()
    first = caught.value
    offsets = {first.offset, *(other.offset for other in first.others)}
    context = first.__context__
    if isinstance(context, FaultError):
        offsets.add(context.offset)
    assert offsets == {0, PAGE_SIZE}


def test_the_innermost_scope_raises_and_the_outer_one_goes_on(
    views: tuple[Region, numpy.ndarray, memoryview],
) -> None:
    _, array, _ = views
    with catch_faults() as outer:
        with pytest.raises(FaultError), catch_faults() as inner:
            array[0] = 1
        with pytest.raises(FaultError):
            array.fill(1)
        assert len(inner.faults) == 1
    assert len(outer.faults) == 1


def test_scopes_may_end_in_another_order(misbehave: ModuleType, blocked: Region) -> None:
    first, second = catch_faults(), catch_faults()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(FaultError):
        misbehave.write(blocked.address, 1)
    assert len(second.faults) == 1
    second.__exit__(None, None, None)


def test_a_scope_cannot_be_opened_twice_at_once() -> None:
    with catch_faults() as scope, pytest.raises(RuntimeError, match="open already"):
        scope.__enter__()
    with scope:
        pass


def test_a_scope_takes_a_policy_and_nothing_else() -> None:
    for wrong in ((1,), ("raise", "log"), (None,)):
        with pytest.raises(TypeError):
            catch_faults(*wrong)
    with pytest.raises(TypeError):
        catch_faults(kind="raise")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="'cry' is no fault policy"):
        catch_faults("cry")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        catch_faults().__exit__()


def test_ending_a_scope_that_is_not_open_does_nothing() -> None:
    scope = catch_faults()
    scope.__exit__(None, None, None)
    with scope:
        pass
    scope.__exit__(None, None, None)


def test_a_scope_may_end_in_another_thread_and_die_there(misbehave: ModuleType, blocked: Region) -> None:
    """A generator with a scope in it may be closed, or collected, anywhere."""
    elsewhere = catch_faults()
    opener = threading.Thread(target=elsewhere.__enter__)
    opener.start()
    opener.join()
    for _ in range(20):
        scope = catch_faults()
        scope.__enter__()
        holder = [scope]
        del scope
        thread = threading.Thread(target=lambda holder=holder: holder.pop().__exit__(None, None, None))
        thread.start()
        thread.join()
        churn = [bytes(ctypes.sizeof(ctypes.c_void_p) * 6) for _ in range(100)]
        with pytest.raises(FaultError):
            misbehave.write(blocked.address, 1)
        del churn
    assert elsewhere.faults == ()
    elsewhere.__exit__(None, None, None)


def test_a_thread_that_has_no_scope_of_its_own_gets_its_exception(misbehave: ModuleType, blocked: Region) -> None:
    """An open scope arms recovery for the whole process."""
    raised: list[FaultError] = []

    def work() -> None:
        try:
            misbehave.write(blocked.address, 1)
        except FaultError as fault:
            raised.append(fault)

    with catch_faults() as scope:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert scope.faults == ()
    assert len(raised) == 1


def test_a_scope_in_another_thread_does_not_take_what_is_mine(misbehave: ModuleType, blocked: Region) -> None:
    stop = threading.Event()

    def open_and_close() -> None:
        while not stop.is_set():
            with catch_faults() as scope:
                pass
            assert scope.faults == ()

    thread = threading.Thread(target=open_and_close)
    thread.start()
    try:
        with catch_faults() as scope:
            for _ in range(500):
                with pytest.raises(FaultError):
                    misbehave.write(blocked.address, 1, gil=False)
        assert len(scope.faults) == 500
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
def test_a_fault_of_a_thread_without_python_is_raised_where_the_scope_ends(
    misbehave: ModuleType, blocked: Region, gil: bool
) -> None:
    for _ in range(10):
        reached = []
        with pytest.raises(FaultError) as caught, catch_faults():
            reached.append(misbehave.write_from_c_thread(blocked.address + 3, 1, gil=gil))
        assert reached == [None]
        assert caught.value.offset == 3
        assert caught.value.thread is not None
        assert caught.value.thread.id != threading.get_native_id()


def test_check_finds_the_fault_of_a_thread_without_python(misbehave: ModuleType, blocked: Region) -> None:
    with catch_faults() as scope:
        misbehave.write_from_c_thread(blocked.address, 1)
        with pytest.raises(FaultError):
            scope.check()


def run_in_a_thread_of_its_own(function: Callable[..., object], *arguments: object) -> None:
    """A thread without any Python around the call; it is gone afterwards."""
    before = set(os.listdir("/proc/self/task"))
    _thread.start_new_thread(function, arguments)  # returns when the kernel has the thread
    while set(os.listdir("/proc/self/task")) - before:
        time.sleep(0.001)


def test_a_worker_that_ends_at_once_leaves_its_fault_to_the_scope(misbehave: ModuleType, blocked: Region) -> None:
    """Nothing of Python runs in it after the write, so it cannot raise it itself."""
    for gil in (True, False):
        with pytest.raises(FaultError) as caught, catch_faults():
            run_in_a_thread_of_its_own(misbehave.write, blocked.address + 9, 1, gil)
        assert caught.value.offset == 9
        assert caught.value.thread is not None
        assert caught.value.thread.id != threading.get_native_id()


def test_guarded_memory_is_caught_as_well(misbehave: ModuleType) -> None:
    block = guarded(10)
    with pytest.raises(FaultError) as caught, catch_faults():
        misbehave.write(block.address + 10, 1)
    assert (caught.value.cause, caught.value.offset) == ("guard", 10)


def test_a_fault_of_our_own_accessors_is_raised_with_and_without_a_scope(blocked: Region) -> None:
    with pytest.raises(FaultError):
        blocked[0] = 1
    with pytest.raises(FaultError), catch_faults() as scope:
        blocked[0] = 1
    assert scope.faults == ()


def test_thousands_of_scopes_leave_nothing_behind(misbehave: ModuleType, blocked: Region) -> None:
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(2000):
        with catch_faults():
            pass
    gc.collect()
    assert len(gc.get_objects()) < before + 500
