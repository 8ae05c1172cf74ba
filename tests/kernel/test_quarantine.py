"""Freed blocks stay inaccessible while the quarantine has room, and who still uses one is told of both its ends."""

import gc
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy
import pytest

import memprot.guard
from memprot import PAGE_SIZE, FaultError, catch_faults
from memprot.faults.record import Block, FaultRecord

Array = numpy.ndarray[Any, Any]
RunChild = Callable[..., subprocess.CompletedProcess[str]]

# One that is forbidden by a guard, and one by its protection.
SIZES = [80, 5000, 1 << 20]


@pytest.fixture
def quarantine() -> Iterator[None]:
    memprot.guard.enable("numpy", after_free="64MiB")
    yield
    memprot.guard.enable("numpy", after_free=0)
    memprot.guard.disable("numpy")


def address_of(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def freed(size: int) -> int:
    """Where a block was that is freed now."""
    array = numpy.empty(size, "u1")
    return address_of(array)


def use_after_free(misbehave: ModuleType, address: int) -> tuple[FaultRecord, Block]:
    with pytest.raises(FaultError) as caught, catch_faults():
        misbehave.write(address, 1)
    record = caught.value.record
    assert caught.value.cause == "guard"
    assert record is not None
    assert record.block is not None
    assert record.kind == "use-after-free"
    return record, record.block


@pytest.mark.parametrize("size", SIZES)
def test_writing_to_a_freed_block_is_told_with_its_offset(misbehave: ModuleType, quarantine: None, size: int) -> None:
    address = freed(size)
    for offset in (0, 13, size - 1):
        record, block = use_after_free(misbehave, address + offset)
        assert (record.access, record.distance, record.address) == ("write", offset, address + offset)
        assert (block.address, block.nbytes, block.is_freed, block.allocator) == (address, size, True, "numpy")


@pytest.mark.parametrize("size", SIZES)
def test_reading_gives_zeros_and_the_program_goes_on(misbehave: ModuleType, quarantine: None, size: int) -> None:
    address = freed(size)
    with catch_faults("log") as scope:
        assert misbehave.read(address + 3) == 0
    (fault,) = scope.faults
    assert fault.record is not None
    assert (fault.record.kind, fault.access, fault.record.distance) == ("use-after-free", "read", 3)
    use_after_free(misbehave, address + 3)


def test_both_stacks_and_the_thread_that_freed_are_told(misbehave: ModuleType, quarantine: None) -> None:
    addresses: list[int] = []
    threads: list[int] = []

    def free(arrays: list[Array]) -> None:
        threads.append(threading.get_native_id())
        addresses.append(address_of(arrays[0]))
        arrays.clear()

    allocating = sys._getframe().f_lineno + 1
    arrays: list[Array] = [numpy.arange(10)]
    thread = threading.Thread(target=free, args=(arrays,))
    thread.start()
    thread.join()
    _, block = use_after_free(misbehave, addresses[0])
    assert block.freed_thread == threads[0] != threading.get_native_id()
    assert (block.allocated[0].file, block.allocated[0].line) == (__file__, allocating)
    assert (block.freed[0].file, block.freed[0].line) == (__file__, free.__code__.co_firstlineno + 3)


def test_a_pointer_kept_from_before_a_resize_is_found(misbehave: ModuleType, quarantine: None) -> None:
    array = numpy.arange(10)
    stale = address_of(array)
    array.resize(100_000, refcheck=False)
    assert array[:10].tolist() == list(range(10))
    _, block = use_after_free(misbehave, stale + 8)
    assert block.nbytes == 80


def test_off_by_default(misbehave: ModuleType) -> None:
    memprot.guard.enable("numpy")
    try:
        address = freed(80)
        with catch_faults() as scope:
            misbehave.read(address)
        assert scope.faults == ()
        assert memprot.guard.report()["numpy"]["quarantined"] == 0
    finally:
        memprot.guard.disable("numpy")


def test_the_oldest_are_given_back_first_and_used_again() -> None:
    pages = 8
    memprot.guard.enable("numpy", after_free=pages * PAGE_SIZE)
    try:
        addresses = []
        for _ in range(3 * pages):
            array = numpy.empty(PAGE_SIZE, "u1")
            addresses.append(address_of(array))
            del array
        assert len(set(addresses[: pages + 1])) == pages + 1
        assert set(addresses) == set(addresses[: pages + 1])
        for index, address in enumerate(addresses[pages + 1 :]):
            assert address == addresses[index]
        assert memprot.guard.report()["numpy"]["quarantined"] == pages * PAGE_SIZE
        memprot.guard.enable("numpy", after_free=0)
        assert memprot.guard.report()["numpy"]["quarantined"] == 0
    finally:
        memprot.guard.enable("numpy", after_free=0)
        memprot.guard.disable("numpy")


@pytest.mark.parametrize("size", SIZES)
def test_what_comes_back_is_memory_like_any_other(misbehave: ModuleType, size: int) -> None:
    memprot.guard.enable("numpy", after_free="2MiB")
    try:
        for _ in range(40):
            use_after_free(misbehave, freed(size) + 1)
            fresh = numpy.zeros(size, "u1")
            assert not fresh.any()
            fresh[:] = 255
    finally:
        memprot.guard.enable("numpy", after_free=0)
        memprot.guard.disable("numpy")
    assert not numpy.zeros(size, "u1").any()


def test_a_fault_that_was_not_raised_yet_does_not_leave_the_block_open(run_child: RunChild) -> None:
    """In a process of its own: there is one quarantine, and whoever frees a block pushes others out."""
    child = run_child("""
import numpy, misbehave, memprot.guard
from memprot import PAGE_SIZE, catch_faults

def address_of(array):
    return array.__array_interface__["data"][0]

def freed():
    return address_of(numpy.empty(80, "u1"))

memprot.guard.enable("numpy", after_free=PAGE_SIZE)
with catch_faults("log") as scope:
    address = freed()
    misbehave.write(address, 1)
    other = freed()
    again = numpy.zeros(10)
    print(other != address, address_of(again) == address)
    again[:] = 3.0
print(*(fault.record.kind for fault in scope.faults), again.tolist() == [3.0] * 10)
""")
    assert (child.stdout, child.stderr) == ("True True\nuse-after-free True\n", "")


def test_beside_a_freed_block_the_nearest_live_one_is_named(misbehave: ModuleType, quarantine: None) -> None:
    arrays: list[Array] = []
    neighbours = None
    while neighbours is None:
        arrays = sorted([*arrays, *(numpy.zeros(PAGE_SIZE, "u1") for _ in range(64))], key=address_of)
        pairs = itertools.pairwise(arrays)
        neighbours = next((pair for pair in pairs if address_of(pair[1]) - address_of(pair[0]) < 1 << 17), None)
    lower, upper = neighbours
    del neighbours, pairs  # which hold the lower one
    end = address_of(lower) + PAGE_SIZE
    arrays = [array for array in arrays if array is not lower]
    del lower
    gc.collect()
    with pytest.raises(FaultError) as caught, catch_faults():
        misbehave.write(end, 1)
    record = caught.value.record
    assert record is not None
    assert record.block is not None
    assert record.block.address == address_of(upper)
    assert (record.kind, record.distance) == ("underflow", end - address_of(upper))


def test_a_child_of_a_fork_keeps_the_quarantine_of_its_parent(run_child: RunChild) -> None:
    child = run_child("""
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import numpy, misbehave, memprot.guard
from memprot import FaultError, catch_faults
memprot.guard.enable("numpy", after_free="1MiB")
addresses = [numpy.full(size, 7, "u1").__array_interface__["data"][0] for size in (80, 100_000)]
def kinds():
    found = []
    for address in addresses:
        try:
            with catch_faults():
                misbehave.write(address, 1)
        except FaultError as fault:
            found.append(fault.record.kind)
    return found
pid = os.fork()
good = kinds() == ["use-after-free"] * 2
arrays = [numpy.zeros(100) for _ in range(1000)]
good = good and not any(array.any() for array in arrays)
if pid == 0:
    os._exit(0 if good else 1)
print(good, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""")
    assert (child.stdout, child.stderr) == ("True 0\n", "")


def test_threads_allocate_and_free_while_one_uses_what_is_freed(misbehave: ModuleType) -> None:
    memprot.guard.enable("numpy", after_free=32 * PAGE_SIZE)
    stop = threading.Event()
    wrong: list[str] = []

    def work() -> None:
        while not stop.is_set():
            arrays = [numpy.full(size, index, "i4") for index, size in enumerate((10, 1000, 40_000, 10))]
            wrong.extend(str(index) for index, array in enumerate(arrays) if not (array == index).all())

    threads = [threading.Thread(target=work) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(100):
            kept = numpy.arange(20)
            address = address_of(kept)
            del kept
            with catch_faults("log") as scope:
                misbehave.read(address)
            assert all(fault.record and fault.record.kind == "use-after-free" for fault in scope.faults)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        memprot.guard.enable("numpy", after_free=0)
        memprot.guard.disable("numpy")
    assert wrong == []


def test_the_bound_is_checked() -> None:
    for bound, error in ((-1, ValueError), ("many", ValueError), (1 << 60, ValueError), (1.5, TypeError)):
        with pytest.raises(error):
            memprot.guard.enable("numpy", after_free=bound)  # type: ignore[arg-type]


def test_who_uses_freed_memory_that_is_given_back_meanwhile_goes_on(run_child: RunChild) -> None:
    child = run_child("""
import threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import numpy, misbehave, memprot.guard
from memprot import catch_faults
memprot.guard.enable("numpy", after_free=1 << 12)
array = numpy.empty(10)
address = array.__array_interface__["data"][0]
del array
stop = threading.Event()
def use():
    while not stop.is_set():
        misbehave.read(address, gil=False)
with catch_faults("log") as scope:
    thread = threading.Thread(target=use)
    thread.start()
    for _ in range(3000):
        numpy.empty(10)
    stop.set()
    thread.join()
print("ended", all(fault.record.kind == "use-after-free" for fault in scope.faults))
""")
    assert (child.stdout, child.returncode) == ("ended True\n", 0), child.stderr
