"""What lies between a block and its guard is filled, and looked at when the block is freed, resized, or on demand."""

import ctypes
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy
import pytest

import memprot.guard
from memprot import PAGE_SIZE, FaultError, calls, catch_faults
from memprot.faults.record import FaultRecord

Array = numpy.ndarray[Any, Any]


@pytest.fixture
def left() -> Iterator[None]:
    memprot.guard.enable("numpy", side="left")
    yield
    memprot.guard.disable("numpy")


@pytest.fixture
def aligned() -> Iterator[None]:
    memprot.guard.enable("numpy", align=16)
    yield
    memprot.guard.disable("numpy")


def end_of(array: Array) -> int:
    return int(array.__array_interface__["data"][0]) + array.nbytes


def record_of(fault: FaultError) -> FaultRecord:
    assert fault.record is not None
    assert fault.record.kind == "slack"
    return fault.record


def free_and_catch(arrays: list[Array]) -> FaultRecord:
    with pytest.raises(FaultError) as caught, catch_faults():
        arrays.clear()
    return record_of(caught.value)


@pytest.mark.parametrize("offset", [0, 1, 1000])
def test_a_byte_written_behind_a_block_is_found_when_it_is_freed(
    misbehave: ModuleType, left: None, offset: int
) -> None:
    arrays = [numpy.zeros(13, "u1")]
    end = end_of(arrays[0])
    misbehave.write(end + offset, 0)
    record = free_and_catch(arrays)
    assert (record.address, record.distance, record.size, record.signal) == (end + offset, offset, 1, 0)
    assert (record.value, record.access) == (b"\0", "write")
    assert record.block is not None
    assert (record.block.nbytes, record.block.allocator) == (13, "numpy")


def test_it_is_told_from_the_first_overwritten_byte_to_the_last(left: None) -> None:
    arrays = [numpy.zeros(100, "u1")]
    end = end_of(arrays[0])
    ctypes.memset(end + 7, 1, 3)
    ctypes.memset(end + 2000, 2, 1)
    record = free_and_catch(arrays)
    assert (record.distance, record.size) == (7, 1994)
    assert record.value is not None
    assert record.value[:3] == b"\1\1\1"
    assert str(record.element) == "element 107 of 100, axis 0" or record.element is None


def test_what_alignment_leaves_is_slack_on_the_right(misbehave: ModuleType, aligned: None) -> None:
    arrays = [numpy.zeros(20, "u1")]
    end = end_of(arrays[0])
    assert (end - 20) % 16 == 0
    misbehave.write(end + 11, 5)
    assert free_and_catch(arrays).distance == 11
    with pytest.raises(FaultError) as caught, catch_faults():
        array = numpy.zeros(20, "u1")
        misbehave.write(end_of(array) + 12, 5)
    assert caught.value.record is not None
    assert caught.value.record.kind == "overflow"


def test_resizing_looks_too(misbehave: ModuleType, left: None) -> None:
    array = numpy.arange(10)
    misbehave.write(end_of(array) + 2, 1)
    with pytest.raises(FaultError) as caught, catch_faults():
        array.resize(100, refcheck=False)
    assert record_of(caught.value).distance == 2
    assert array[:10].tolist() == list(range(10))


def test_blocks_that_nobody_wrote_beside_are_freed_in_silence(left: None) -> None:
    before = memprot.guard.report()["numpy"]["slack"]
    with catch_faults() as scope:
        for size in (1, 2, 100, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 5 * PAGE_SIZE + 3, 100_000, 1_000_001):
            for make in (numpy.zeros, numpy.empty, numpy.ones):
                array = make(size, "u1")
                array[:] = 3
                array.resize(size + 1, refcheck=False)
                array[:] = 4
    assert scope.faults == ()
    assert memprot.guard.report()["numpy"]["slack"] == before


def test_check_looks_at_live_blocks_and_tells_once(misbehave: ModuleType, left: None) -> None:
    arrays = [numpy.zeros(10, "u1") for _ in range(5)]
    assert memprot.guard.check() >= 5
    misbehave.write(end_of(arrays[2]) + 4, 1)
    misbehave.write(end_of(arrays[4]) + 9, 1)
    before = memprot.guard.report()["numpy"]["slack"]
    with pytest.raises(FaultError) as caught, catch_faults():
        memprot.guard.check()
    found = {record_of(fault).distance for fault in (caught.value, *caught.value.others)}
    assert found == {4, 9}
    assert memprot.guard.report()["numpy"]["slack"] == before + 2
    with catch_faults() as scope:
        memprot.guard.check()
        arrays.clear()
    assert scope.faults == ()


def test_check_follows_the_policies(misbehave: ModuleType, left: None) -> None:
    array = numpy.zeros(10, "u1")
    misbehave.write(end_of(array), 1)
    with catch_faults("log") as scope:
        memprot.guard.check()
    assert [record_of(fault).distance for fault in scope.faults] == [0]


def test_check_passes_over_blocks_that_may_not_be_read(left: None) -> None:
    array = numpy.zeros(10, "u1")
    page = end_of(array) - 10
    calls.mprotect(page, PAGE_SIZE, 0)
    try:
        with catch_faults() as scope:
            assert memprot.guard.check() >= 1
        assert scope.faults == ()
    finally:
        calls.mprotect(page, PAGE_SIZE, 3)
    assert array.tolist() == [0] * 10


def test_by_turns_both_sides_are_guarded(misbehave: ModuleType) -> None:
    memprot.guard.enable("numpy", side="turns")
    try:
        arrays = [numpy.zeros(100, "u1") for _ in range(10)]
        at_end = [end_of(array) % PAGE_SIZE == 0 for array in arrays]
        assert sorted(at_end) == [False] * 5 + [True] * 5
    finally:
        memprot.guard.disable("numpy")


def test_by_chance_both_sides_are_guarded() -> None:
    memprot.guard.enable("numpy", side="random")
    try:
        arrays = [numpy.zeros(100, "u1") for _ in range(200)]
        assert {end_of(array) % PAGE_SIZE for array in arrays} == {0, 100}
    finally:
        memprot.guard.disable("numpy")


def test_one_in_many_is_guarded_when_only_a_sample_is_asked_for() -> None:
    before = memprot.guard.report()["numpy"]
    memprot.guard.enable("numpy", sample=10)
    try:
        arrays = [numpy.zeros(100, "u1") for _ in range(2000)]
    finally:
        memprot.guard.disable("numpy")
    after = memprot.guard.report()["numpy"]
    guarded, left_out = after["arrays"] - before["arrays"], after["sampled_out"] - before["sampled_out"]
    assert len(arrays) == 2000 <= guarded + left_out
    assert 50 < guarded < 1000
