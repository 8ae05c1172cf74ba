"""guarded(): the last byte, or the first, lies beside a guard to the byte."""

import ctypes
import gc
import random
from types import ModuleType
from typing import Literal

import pytest

from memprot import PAGE_SIZE, FaultError, Prot, Region, catch_faults, guarded

Side = Literal["left", "right"]
SIDES = pytest.mark.parametrize("side", ["left", "right"])
SIZES = [1, 2, 7, 8, 13, 64, 4095, 4096, 4097, 8191, 8192, 10_000, *random.Random(5).sample(range(1, 10_001), 25)]


def fault_of(misbehave: ModuleType, address: int, gil: bool = True) -> FaultError:
    with pytest.raises(FaultError) as caught, catch_faults():
        misbehave.write(address, 1, gil=gil)
    return caught.value


@SIDES
@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
def test_the_guard_begins_at_the_very_byte(misbehave: ModuleType, side: Side, gil: bool) -> None:
    for size in SIZES:
        with guarded(size, side) as block:
            assert len(block) == size
            assert block.guarded
            block[:] = b"\x5a" * size
            ctypes.memset(block.address, 0x5A, size)
            beside = block.address + (size if side == "right" else -1)
            fault = fault_of(misbehave, beside, gil)
            assert (fault.cause, fault.access, fault.address) == ("guard", "write", beside)
            assert fault.offset == (size if side == "right" else -1)
            record = fault.record
            assert record is not None
            assert record.distance == (0 if side == "right" else -1)
            assert record.kind == ("overflow" if side == "right" else "underflow")
            assert block[:] == b"\x5a" * size


@SIDES
def test_both_guards_are_64_kilobytes_long(misbehave: ModuleType, side: Side) -> None:
    with guarded(100, side) as block:
        start, stop = block.extent
        for address in (stop, stop + 65535, start - 1, start - 65536):
            fault = fault_of(misbehave, address)
            assert (fault.cause, fault.offset) == ("guard", address - block.address)
            assert fault.region is block


@SIDES
def test_the_guard_stands_again_after_each_fault(misbehave: ModuleType, side: Side) -> None:
    with guarded(10, side) as block:
        for _ in range(300):
            assert fault_of(misbehave, block.address + (10 if side == "right" else -1)).cause == "guard"
        with pytest.raises(FaultError) as caught, catch_faults():
            misbehave.read(block.address + (10 if side == "right" else -1))
        assert caught.value.access == "read"


def test_what_was_written_into_a_guard_is_gone(misbehave: ModuleType) -> None:
    with guarded(10) as block:
        fault_of(misbehave, block.address + 10)
        target = ctypes.create_string_buffer(b"\xff" * 8, 8)
        with pytest.raises(FaultError), catch_faults():
            misbehave.move(ctypes.addressof(target), block.address + 10, 8)
        assert target.raw == bytes(8)


@SIDES
def test_a_guarded_block_can_be_protected_too(misbehave: ModuleType, side: Side) -> None:
    with guarded(3 * PAGE_SIZE, side) as block:
        block[:] = b"\1" * len(block)
        block.protect("r--", PAGE_SIZE, 2 * PAGE_SIZE)
        with pytest.raises(FaultError) as caught, catch_faults():
            misbehave.stosb(block.address, 9, 3 * PAGE_SIZE + 10)
        causes = [(fault.cause, fault.offset) for fault in (caught.value, *caught.value.others)]
        assert causes == [("protection", PAGE_SIZE), ("guard", 3 * PAGE_SIZE)]
        assert block[:] == b"\x09" * PAGE_SIZE + b"\1" * PAGE_SIZE + b"\x09" * PAGE_SIZE
        with block.protected("---"), pytest.raises(FaultError):
            block[0]
        block.protect("r--")
        with pytest.raises(FaultError):
            block[5] = 1
        block.protect("rw-")
        assert block.prot == Prot.READ | Prot.WRITE


def test_a_block_that_ends_at_its_guard_is_protected_from_its_own_pages_on() -> None:
    with guarded(PAGE_SIZE + 100) as block:
        block.protect("r--")
        with pytest.raises(FaultError):
            block[0] = 1
        with pytest.raises(FaultError):
            block[-1] = 1
        block.protect("rw-", 100)
        with pytest.raises(FaultError):
            block[99] = 1
        block[100] = 1
        with pytest.raises(ValueError, match="multiple"):
            block.protect("r--", PAGE_SIZE)


def test_two_blocks_next_to_each_other_are_told_apart(misbehave: ModuleType) -> None:
    blocks = [guarded(50) for _ in range(20)]
    for block in blocks:
        fault = fault_of(misbehave, block.address + 50)
        assert fault.region is block
        assert fault.offset == 50
    for block in blocks:
        block.close()


def test_accessors_stay_within_the_block() -> None:
    with guarded(13) as block:
        for index in (13, -14):
            with pytest.raises(IndexError):
                block[index]
        assert block.read(0, 13) == bytes(13)
        with pytest.raises(ValueError, match="13 bytes"):
            block.read(0, 14)
        assert isinstance(block, Region)


@pytest.mark.parametrize("side", ["up", "", None, 1, "RIGHT"])
def test_another_side_is_a_value_error(side: object) -> None:
    with pytest.raises(ValueError, match="side"):
        guarded(10, side)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -1])
def test_no_bytes_cannot_be_guarded(size: int) -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        guarded(size)


def test_a_fault_whose_block_is_gone_is_still_told(misbehave: ModuleType) -> None:
    block = guarded(10)
    fault = fault_of(misbehave, block.address + 10)
    del block
    gc.collect()
    assert (fault.cause, fault.offset) == ("guard", 10)
    assert "10" in str(fault)
