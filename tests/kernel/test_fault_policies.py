"""What a policy makes of a fault: on every kind of memory, for every giver of policies."""

import ctypes
import mmap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from memprot import PAGE_SIZE, FaultError, Prot, Region, calls, catch_faults, guarded, protect
from memprot.faults import get_policy, set_policy
from memprot.faults.engine import add_listener, drain, remove_listener
from memprot.faults.record import FaultRecord
from memprot.flags import MapFlag
from memprot.space.maps import AddressSpace

Ask = Callable[[FaultError], Any]


@pytest.fixture
def told() -> Iterator[list[FaultRecord]]:
    """What listeners are told of during the test."""
    records: list[FaultRecord] = []
    add_listener(records.append)
    yield records
    remove_listener(records.append)


def prot_at(address: int) -> str:
    mapping = AddressSpace().find(address)
    assert mapping is not None
    return str(mapping.prot)


@pytest.fixture(params=["private", "shared", "file", "foreign private", "foreign shared"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, Callable[[str], None]]]:
    """The address of four pages of sevens, and how to protect them."""
    size = 4 * PAGE_SIZE
    if request.param in ("private", "shared", "file"):
        path = tmp_path / "file"
        path.write_bytes(bytes(size))
        with open(path, "r+b") as file:
            region = (
                Region.from_file(file, "rw-")
                if request.param == "file"
                else Region(size, shared=request.param == "shared")
            )
        region[:] = b"\7" * size
        yield region.address, region.protect
        region.close()
        return
    flags = mmap.MAP_SHARED if request.param == "foreign shared" else mmap.MAP_PRIVATE
    buffer = mmap.mmap(-1, size, flags | mmap.MAP_ANONYMOUS)
    buffer[:] = b"\7" * size
    held = (ctypes.c_char * size).from_buffer(buffer)
    yield ctypes.addressof(held), lambda prot: protect(buffer, prot)
    protect(buffer, "rw-")
    del held
    buffer.close()


def bytes_at(memory: tuple[int, Callable[[str], None]], offset: int, count: int) -> bytes:
    address, protect_as = memory
    protect_as("rw-")
    return ctypes.string_at(address + offset, count)


@pytest.mark.parametrize("prot", ["r--", "---"])
def test_what_is_logged_happens_and_the_page_is_protected_again(
    memory: tuple[int, Callable[[str], None]], misbehave: ModuleType, prot: str, told: list[FaultRecord]
) -> None:
    address, protect_as = memory
    protect_as(prot)
    with catch_faults("log") as scope:
        misbehave.write(address + 5, 1)
        misbehave.set(address + PAGE_SIZE - 2, 2, PAGE_SIZE)
        read = ctypes.string_at(address + 3 * PAGE_SIZE, 3) if prot == "---" else b"\7\7\7"
    assert prot_at(address) == prot_at(address + 2 * PAGE_SIZE - 1) == prot
    assert read == b"\7\7\7"
    assert [fault.access for fault in scope.faults[:2]] == ["write", "write"]
    assert (told[0].access, told[0].address - address) == ("write", 5)
    assert len(told) == len(scope.faults)
    with pytest.raises(FaultError), catch_faults():
        misbehave.write(address, 9)
    assert bytes_at(memory, 3, 4) == b"\7\7\1\7"
    expected = b"\7" * 3 + b"\2" * PAGE_SIZE + b"\7" * 2
    assert bytes_at(memory, PAGE_SIZE - 5, PAGE_SIZE + 5) == expected


def test_what_is_discarded_vanishes_and_is_told(
    memory: tuple[int, Callable[[str], None]], misbehave: ModuleType, told: list[FaultRecord]
) -> None:
    address, protect_as = memory
    protect_as("r--")
    with catch_faults(policy="discard") as scope:
        misbehave.write(address + 5, 1)
    assert len(scope.faults) == len(told) == 1
    assert (scope.faults[0].access, told[0].address) == ("write", address + 5)
    protect_as("---")
    with catch_faults(policy="discard"):
        assert ctypes.string_at(address, 4) == bytes(4)
    assert prot_at(address) == "---"
    assert bytes_at(memory, 0, 4 * PAGE_SIZE) == b"\7" * 4 * PAGE_SIZE


@pytest.mark.parametrize("prot", ["r--", "---"])
@pytest.mark.parametrize("answer", ["log", "discard", None, "raise"])
def test_a_callable_decides_afterwards(
    memory: tuple[int, Callable[[str], None]], misbehave: ModuleType, prot: str, answer: str | None
) -> None:
    address, protect_as = memory
    protect_as(prot)
    asked: list[FaultError] = []

    def ask(fault: FaultError) -> Any:
        asked.append(fault)
        return answer

    raised: list[FaultError] = []
    scope = catch_faults(ask)
    try:
        with scope:
            misbehave.set(address + PAGE_SIZE - 1, 1, 3)
    except FaultError as fault:
        raised.append(fault)
    assert len(asked) == 1
    assert asked[0].address == address + PAGE_SIZE - 1
    assert raised == (asked if answer == "raise" else [])
    assert scope.faults == tuple(asked)
    assert prot_at(address) == prot_at(address + PAGE_SIZE) == prot
    kept = b"\1" * 3 if answer == "log" else b"\7" * 3
    assert bytes_at(memory, PAGE_SIZE - 2, 5) == b"\7" + kept + b"\7"


def test_what_a_callable_raises_is_raised(misbehave: ModuleType, blocked: Region) -> None:
    def ask(fault: FaultError) -> Any:
        raise KeyError(fault.offset)

    scope = catch_faults(ask)
    reached = []
    with pytest.raises(KeyError) as caught, scope:
        misbehave.write(blocked.address + 3, 1)
        reached.append(1)
    assert caught.value.args == (3,)
    assert (scope.faults, reached) == ((), [])


@pytest.mark.parametrize("answer", ["die", "cry", 7, object()])
def test_an_answer_that_is_no_policy_is_an_error(misbehave: ModuleType, blocked: Region, answer: object) -> None:
    with pytest.raises(ValueError, match="polic"), catch_faults(lambda fault: answer):  # type: ignore[arg-type, return-value]
        misbehave.write(blocked.address, 1)


def test_a_callable_may_work_with_the_memory(misbehave: ModuleType) -> None:
    region = Region(4 * PAGE_SIZE)
    region.protect("r--")
    seen: list[int] = []

    def ask(fault: FaultError) -> Any:
        seen.append(region[0])
        region.protect("rw-", PAGE_SIZE, 2 * PAGE_SIZE)
        region[PAGE_SIZE] = 5
        misbehave.write(region.address + 3 * PAGE_SIZE, 1)  # in the middle of it, another one
        return "log"

    scope = catch_faults(ask)
    with scope:
        misbehave.write(region.address, 1)
        region.policy = "discard"
    assert seen[0] == 1
    assert (region[0], region[PAGE_SIZE]) == (1, 5)
    region.close()


def test_the_memorys_own_policy_comes_first(misbehave: ModuleType, told: list[FaultRecord]) -> None:
    with Region(PAGE_SIZE, policy="log") as region:
        assert region.policy == "log"
        region.protect("r--")
        misbehave.write(region.address, 1)
        with catch_faults("raise") as scope:
            misbehave.write(region.address + 1, 2)
        assert [record.address - region.address for record in told] == [0, 1]
        assert len(scope.faults) == 1
        assert region[:2] == b"\1\2"
        region.policy = None
        with pytest.raises(FaultError), catch_faults("raise"):
            misbehave.write(region.address, 3)
        region.policy = lambda fault: "raise"
        with pytest.raises(FaultError):
            misbehave.write(region.address, 4)
            len([])
        assert region[:2] == b"\1\2"
        for wrong, error in (("die", ValueError), ("cry", ValueError), (1, TypeError)):
            with pytest.raises(error):
                region.policy = wrong  # type: ignore[assignment]
        assert callable(region.policy)
    with pytest.raises(ValueError, match="closed"):
        region.policy = "log"


def test_parts_of_a_region_keep_its_policy(misbehave: ModuleType) -> None:
    region = Region(2 * PAGE_SIZE, policy="discard")
    low, high = region.split(PAGE_SIZE)
    for part in (low, high):
        assert part.policy == "discard"
        part.protect("r--")
        misbehave.write(part.address, 1)
        drain()
        assert part[0] == 0
        part.close()


def test_a_policy_that_is_none_maps_nothing() -> None:
    before = len(list(AddressSpace()))
    wrong: Any = "cry"
    with pytest.raises(ValueError, match="no fault policy"):
        Region(10, policy=wrong)
    with pytest.raises(ValueError, match="no fault policy"):
        guarded(10, policy=wrong)
    assert len(list(AddressSpace())) <= before


def test_a_guard_has_no_memory_to_write_to(misbehave: ModuleType, told: list[FaultRecord]) -> None:
    policies: tuple[Any, ...] = ("log", "discard", lambda fault: "log")
    for policy in policies:
        told.clear()
        with guarded(13, policy=policy) as block:
            with catch_faults():
                misbehave.write(block.address + 13, 1)
            with catch_faults("log"):
                misbehave.write(block.address + 13, 1)
            assert [record.distance for record in told] == [0, 0]
            with pytest.raises(FaultError), catch_faults():
                block.policy = None
                misbehave.write(block.address + 13, 1)


def test_nested_scopes_each_have_their_policy(misbehave: ModuleType) -> None:
    region = Region(PAGE_SIZE)
    region.protect("r--")
    with catch_faults("log") as outer:
        misbehave.write(region.address, 1)
        with catch_faults("discard") as inner:
            misbehave.write(region.address + 1, 1)
            with pytest.raises(FaultError), catch_faults("raise"):
                misbehave.write(region.address + 2, 1)
            misbehave.write(region.address + 3, 1)
        misbehave.write(region.address + 4, 1)
    assert region[:5] == b"\1\0\0\0\1"
    assert [fault.offset for fault in inner.faults] == [1, 3]
    assert [fault.offset for fault in outer.faults] == [0, 4]
    region.close()


def test_a_statement_before_a_scope_does_not_fall_under_it(misbehave: ModuleType) -> None:
    region = Region(PAGE_SIZE)
    view = memoryview(region)
    region.protect("r--")
    inner = catch_faults("log")
    with pytest.raises(FaultError) as caught, catch_faults():
        view[0] = 1
        with inner:
            view[1] = 1
    assert caught.value.offset == 0
    assert region[0] == 0
    view.release()
    region.close()


def test_each_thread_has_the_policy_of_its_own_scope(misbehave: ModuleType) -> None:
    region = Region(3 * PAGE_SIZE)
    region.protect("r--")
    barrier = threading.Barrier(3, timeout=30)
    raised: list[int | None] = []

    def work(index: int, policy: Any) -> None:
        try:
            with catch_faults(policy):
                barrier.wait()
                for offset in range(100):
                    misbehave.write(region.address + index * PAGE_SIZE + offset, 1)
                barrier.wait()
        except FaultError as fault:
            raised.append(fault.offset)
            barrier.wait()

    threads = [threading.Thread(target=work, args=item) for item in enumerate(("log", "discard", "raise"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == [2 * PAGE_SIZE]
    assert region[:PAGE_SIZE] == b"\1" * 100 + bytes(PAGE_SIZE - 100)
    assert region[PAGE_SIZE:] == bytes(2 * PAGE_SIZE)
    region.close()


def test_a_thread_without_a_scope_falls_under_the_newest_of_the_process(misbehave: ModuleType) -> None:
    region = Region(PAGE_SIZE)
    region.protect("r--")
    done: list[int] = []

    def work(offset: int) -> None:
        misbehave.write(region.address + offset, 1)
        done.append(len([1]))

    def run(offset: int) -> None:
        thread = threading.Thread(target=work, args=(offset,))
        thread.start()
        thread.join()

    with catch_faults("discard"):
        run(0)
        with catch_faults("log"):
            run(1)
        run(2)
    assert region[:3] == b"\0\1\0"
    assert done == [1, 1, 1]
    region.close()


def test_the_process_policy_counts_where_nothing_else_does(misbehave: ModuleType, told: list[FaultRecord]) -> None:
    region = Region(PAGE_SIZE)
    region.protect("r--")
    asked: list[FaultError] = []
    assert get_policy() == "die"
    try:
        set_policy("log")
        misbehave.write(region.address, 1)
        set_policy("discard")
        misbehave.write(region.address + 1, 1)
        with pytest.raises(FaultError), catch_faults():
            misbehave.write(region.address + 2, 1)
        set_policy(asked.append)
        assert callable(get_policy())
        misbehave.write(region.address + 3, 1)
        len([])
        for wrong, error in (("cry", ValueError), (None, TypeError)):
            with pytest.raises(error):
                set_policy(wrong)  # type: ignore[arg-type]
    finally:
        set_policy("die")
    assert region[:4] == b"\1\0\0\0"
    assert [record.address - region.address for record in told] == [0, 1, 2, 3]
    assert [fault.offset for fault in asked] == [3]
    region.close()


def test_a_read_only_file_is_refused_where_writes_are_to_happen(tmp_path: Path, misbehave: ModuleType) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\7" * PAGE_SIZE)
    with open(path, "rb") as file:
        with pytest.raises(ValueError, match="reading only"):
            Region.from_file(file, "r--", policy="log")
        private = Region.from_file(file, "r--", shared=False, policy="log")
        shared = Region.from_file(file, "r--")
    misbehave.write(private.address, 1)
    with catch_faults("log") as scope:
        misbehave.write(shared.address, 1)
    with pytest.raises(ValueError, match="open it for writing"), catch_faults(lambda fault: "log"):
        misbehave.write(shared.address, 1)
    assert (private[0], shared[0], len(scope.faults)) == (1, 7, 1)
    assert path.read_bytes() == b"\7" * PAGE_SIZE
    with Region.from_file(path, "r--", policy="log") as writable:
        misbehave.write(writable.address, 2)
    assert path.read_bytes()[0] == 2
    private.close()
    shared.close()


def test_what_others_write_to_shared_memory_meanwhile_stays(misbehave: ModuleType) -> None:
    fd = calls.memfd_create("shared")
    calls_size = 2 * PAGE_SIZE
    with open(fd, "r+b", buffering=0) as file:
        file.truncate(calls_size)
        other = calls.mmap(0, calls_size, Prot.READ | Prot.WRITE, MapFlag.SHARED, file.fileno(), 0)
        region = Region.from_file(file, "r--")

        def ask(fault: FaultError) -> Any:
            ctypes.memset(other + 10, 9, 1)
            return "log"

        with catch_faults(ask):
            misbehave.write(region.address + 5, 1)
        with catch_faults("log"):
            misbehave.write(region.address + 6, 2)
            assert ctypes.string_at(other + 6, 1) == b"\2"
        assert region[5:11] == b"\1\2\0\0\0\x09"
        assert ctypes.string_at(other + 5, 6) == region[5:11]
        calls.munmap(other, calls_size)
        region.close()
