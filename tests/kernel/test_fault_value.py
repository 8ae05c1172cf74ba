"""What an instruction that was blocked would have written, and the instruction itself."""

import ctypes
import importlib.util
import os
import struct
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults, guarded

KNOWN = os.uname().machine == "x86_64"
BYTES = bytes(range(1, 201))


def fault_of(act: Callable[[], object]) -> FaultError:
    with pytest.raises(FaultError) as caught, catch_faults():
        act()
    return caught.value


def check(fault: FaultError, value: bytes) -> None:
    assert fault.value == (value if KNOWN else None)
    assert fault.record is not None
    assert fault.record.value == fault.value


@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
def test_a_store_of_a_register_has_its_value(misbehave: ModuleType, blocked: Region, gil: bool) -> None:
    check(fault_of(lambda: misbehave.write(blocked.address + 3, 0xAB, gil=gil)), b"\xab")
    value = 0x1122334455667788
    check(fault_of(lambda: misbehave.write64(blocked.address + 3, value, gil=gil)), struct.pack("=Q", value))


def test_an_addition_has_its_sum_where_the_memory_can_be_read(misbehave: ModuleType, blocked: Region) -> None:
    before = struct.unpack("=Q", blocked.read(8, 8))[0] if str(blocked.prot) == "r--" else None
    fault = fault_of(lambda: misbehave.add64(blocked.address + 8, 5))
    if before is None:
        assert fault.value is None
    else:
        check(fault, struct.pack("=Q", before + 5))


def test_a_fill_has_its_element_and_a_copy_its_next_bytes(misbehave: ModuleType, blocked: Region) -> None:
    if KNOWN:
        check(fault_of(lambda: misbehave.stosb(blocked.address, 0x5A, 100)), b"\x5a")
        source = ctypes.create_string_buffer(BYTES)
        start = ctypes.addressof(source)
        check(fault_of(lambda: misbehave.movsb(blocked.address, start, 100)), BYTES[:64])
        check(fault_of(lambda: misbehave.movsb(blocked.address, start, 3)), BYTES[:3])


@pytest.mark.parametrize("size", [1, 3, 8, 16, 31, 64, 128])
def test_what_the_c_library_stores_has_its_value_whatever_its_registers(
    misbehave: ModuleType, blocked: Region, size: int
) -> None:
    fault = fault_of(lambda: misbehave.set(blocked.address, 0x5A, size))
    assert fault.value is not None or not KNOWN
    assert set(fault.value or b"\x5a") == {0x5A}
    source = ctypes.create_string_buffer(BYTES)
    fault = fault_of(lambda: misbehave.move(blocked.address, ctypes.addressof(source), size))
    assert fault.value is not None or not KNOWN
    assert fault.address is not None
    start = fault.address - blocked.address
    assert (fault.value or b"") in BYTES[start : start + 64]


def assign(array: Any, value: float) -> None:
    array[5] = value


@pytest.mark.parametrize("act", [assign, np.ndarray.fill, lambda array, value: np.add(array, value, out=array)])
def test_what_numpy_stores_has_its_value(act: Callable[[Any, float], object]) -> None:
    with Region(PAGE_SIZE) as region:
        array = region.array("f8")
        region.protect("r--")
        fault = fault_of(partial(act, array, -2.5))
        del array
    assert fault.value is not None or not KNOWN
    assert set(np.frombuffer(fault.value or b"", "f8").tolist()) <= {-2.5}


def test_a_read_writes_nothing(misbehave: ModuleType, shared: bool) -> None:
    with Region(PAGE_SIZE, "---", shared=shared) as region:
        fault = fault_of(lambda: misbehave.read64(region.address))
    assert fault.value is None
    assert fault.instruction is not None


def test_the_value_is_whole_where_only_a_part_of_it_is_forbidden(misbehave: ModuleType) -> None:
    block = guarded(100)
    value = 0x1122334455667788
    fault = fault_of(lambda: misbehave.write64(block.address + 97, value))
    check(fault, struct.pack("=Q", value))
    assert fault.offset == 100


@pytest.fixture
def without_capstone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    monkeypatch.setattr("memprot.faults.disassembly._kept", None)


def test_the_instruction_is_disassembled(misbehave: ModuleType, blocked: Region) -> None:
    if importlib.util.find_spec("capstone") is None:
        pytest.skip("capstone is not installed")
    fault = fault_of(lambda: misbehave.write64(blocked.address, 1))
    assert fault.instruction is not None
    if KNOWN:
        assert fault.instruction.startswith("mov qword ptr [r")


@pytest.mark.usefixtures("without_capstone")
def test_without_capstone_the_instruction_is_its_bytes(misbehave: ModuleType, blocked: Region) -> None:
    fault = fault_of(lambda: misbehave.write64(blocked.address, 1))
    record = fault.record
    assert record is not None
    assert record.code is not None
    assert ctypes.string_at(record.native[0].address, 16) == record.code
    assert fault.instruction == record.code.hex(" ")


def test_what_an_own_accessor_meets_has_no_instruction(blocked: Region) -> None:
    accessed: Any = blocked
    with pytest.raises(FaultError) as caught:
        accessed[10] = 1
    fault = caught.value
    assert (fault.instruction, fault.value, fault.time, fault.traceback) == (None, None, None, None)
