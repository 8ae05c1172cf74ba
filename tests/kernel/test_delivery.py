"""A fault becomes one exception, in the thread that caused it, however often and wherever it happens."""

import contextlib
import threading
from collections.abc import Callable
from types import ModuleType

import numpy
import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults

GIL = pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
THREADS = 4


def in_threads(work: Callable[[int], None]) -> None:
    """Run it in several threads at once; what one of them raises is raised here."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(THREADS)

    def run(index: int) -> None:
        try:
            barrier.wait()
            work(index)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@GIL
def test_every_call_raises_in_its_own_thread(misbehave: ModuleType, blocked: Region, gil: bool) -> None:
    address, calls = blocked.address, 300

    def work(index: int) -> None:
        raised = 0
        with catch_faults() as scope:
            for _ in range(calls):
                try:
                    misbehave.write(address + index * PAGE_SIZE + index, 1, gil=gil)
                except FaultError as error:
                    raised += 1
                    fault = error
                assert fault.offset == index * PAGE_SIZE + index
                assert fault.thread is not None
                assert fault.thread.id == threading.get_native_id()
                assert fault.others == ()
            scope.check()
        assert raised == calls == len(scope.faults)

    in_threads(work)


@GIL
def test_a_scopes_end_raises_what_its_thread_recorded(misbehave: ModuleType, blocked: Region, gil: bool) -> None:

    def work(index: int) -> None:
        for _ in range(200):
            with pytest.raises(FaultError) as caught, catch_faults():
                misbehave.write(blocked.address + index * PAGE_SIZE, 1, gil=gil)
            assert caught.value.offset == index * PAGE_SIZE

    in_threads(work)


def test_one_burst_is_one_exception(shared: bool) -> None:
    with Region(8 * PAGE_SIZE, shared=shared) as region:
        array = region.array("i8")
        array[:] = range(len(array), 0, -1)
        before = array.tobytes()
        region.protect("r--")
        for _ in range(100):
            with catch_faults() as scope:
                raised = 0
                try:
                    array.sort()
                except FaultError:
                    raised += 1
                for _ in range(20):
                    len([])
                assert raised == 1
            assert len(scope.faults) == 1
            assert region.read() == before
        del array


@GIL
def test_a_call_that_goes_on_into_python_raises_once(misbehave: ModuleType, blocked: Region, gil: bool) -> None:
    reached: list[int] = []
    for _ in range(100):
        with catch_faults() as scope:
            with pytest.raises(FaultError):
                misbehave.write_then_call(blocked.address, 1, lambda: reached.append(len([1])))
            for _ in range(20):
                len([])
        assert len(scope.faults) == 1
    assert reached == []


def test_an_exception_that_c_code_swallows_is_not_lost(misbehave: ModuleType, blocked: Region) -> None:
    """It was raised inside the call, or is raised at the scope's end where nobody looked at it."""
    scope = catch_faults()
    with contextlib.suppress(FaultError), scope:
        assert misbehave.call_and_swallow(lambda: misbehave.write(blocked.address, 1)) is True
    (fault,) = scope.faults
    assert fault.offset == 0


def test_a_fault_on_the_way_to_another_exception_is_raised_as_well(misbehave: ModuleType, blocked: Region) -> None:
    for _ in range(50):
        scope = catch_faults()
        with pytest.raises(FaultError), scope, contextlib.suppress(ValueError):
            misbehave.write_with_error_set(blocked.address, 1)
        assert len(scope.faults) == 1


def test_c_code_that_ignores_errors_leaves_the_data_as_it_was(misbehave: ModuleType, blocked: Region) -> None:
    with pytest.raises((FaultError, SystemError)), catch_faults() as scope:
        misbehave.call_twice_without_check(lambda: misbehave.write(blocked.address, 1))
    assert scope.faults


@GIL
def test_thousands_of_faults_at_one_address_are_all_raised(misbehave: ModuleType, blocked: Region, gil: bool) -> None:
    raised = 0
    with catch_faults():
        for _ in range(3000):
            try:
                misbehave.write(blocked.address, 1, gil=gil)
            except FaultError:
                raised += 1
    assert raised == 3000


def test_an_instruction_that_faults_thousands_of_times_gets_through(
    misbehave: ModuleType, shared: bool, prot: str
) -> None:
    """Each time its page is closed again under it; the loop is one call, so that nothing is raised meanwhile."""
    with Region(PAGE_SIZE, shared=shared) as region, Region(1) as flag:
        region.protect(prot)
        raised: list[FaultError] = []

        def write() -> None:
            with catch_faults() as scope:
                try:
                    misbehave.write_in_loop_until(region.address, 1, flag.address)
                except FaultError as fault:
                    raised.append(fault)
            assert len(scope.faults) == 1

        thread = threading.Thread(target=write)
        thread.start()
        for _ in range(20_000):
            region.protect(prot)
        flag[0] = 1
        thread.join()
        (fault,) = raised
        assert fault.offset == 0
        assert all(other.offset == 0 for other in fault.others)
        region.protect("r--")
        assert region[0] == 0


def test_thousands_of_pages_are_restored(misbehave: ModuleType, shared: bool) -> None:
    pages = 4000
    with Region(pages * PAGE_SIZE, shared=shared) as region:
        array = region.array("u4")
        array[:] = numpy.arange(len(array), dtype="u4")
        before = array.copy()
        region.protect("r--")
        assert len(region.mappings) == 1
        with pytest.raises(FaultError) as caught, catch_faults():
            misbehave.stosb(region.address, 0xEE, region.size)
        assert caught.value.others == ()
        assert numpy.array_equal(array, before)
        assert [str(mapping.prot) for mapping in region.mappings] == ["r--"]
        del array


def test_many_scattered_faults_in_one_call_are_one_exception(misbehave: ModuleType, shared: bool, prot: str) -> None:
    """More of them than the engine has records: the last one stands for the rest."""
    pages = 3000
    with Region(pages * 2 * PAGE_SIZE, shared=shared) as region:
        before = bytes(range(256)) * (region.size // 256)
        region[:] = before
        region.protect(prot)
        with pytest.raises(FaultError) as caught, catch_faults():
            misbehave.hammer(region.address, 2 * PAGE_SIZE, pages)
        faults = [caught.value, *caught.value.others]
        offsets = [fault.offset for fault in faults]
        assert offsets == [index * 2 * PAGE_SIZE for index in range(len(offsets))]
        assert len(offsets) >= 500
        region.protect("r--")
        assert region.read() == before
        assert len(region.mappings) == 1
