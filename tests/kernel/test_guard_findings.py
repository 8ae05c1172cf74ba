"""What is found without a signal: blocks freed twice, addresses freed that are none, and what each policy does."""

import ctypes
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Literal

import pytest

import memprot.guard
from memprot import FaultError, catch_faults
from memprot.faults.record import FaultRecord

RunChild = Callable[..., subprocess.CompletedProcess[str]]

python = ctypes.pythonapi
python.PyMem_RawMalloc.restype = ctypes.c_void_p
python.PyMem_RawMalloc.argtypes = (ctypes.c_size_t,)
python.PyMem_RawFree.argtypes = (ctypes.c_void_p,)
python.PyMem_RawFree.restype = None
python.PyMem_RawRealloc.restype = ctypes.c_void_p
python.PyMem_RawRealloc.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


@pytest.fixture(params=[0, 1 << 20], ids=["no quarantine", "quarantine"])
def raw(request: pytest.FixtureRequest) -> Iterator[int]:
    memprot.guard.enable("raw", after_free=request.param)
    yield request.param
    memprot.guard.enable("raw", after_free=0)
    memprot.guard.disable("raw")


def record_of(fault: FaultError) -> FaultRecord:
    assert fault.record is not None
    assert (fault.cause, fault.record.signal) == ("guard", 0)
    return fault.record


def test_a_second_free_is_told_and_not_carried_out(raw: int) -> None:
    address = python.PyMem_RawMalloc(100)
    python.PyMem_RawFree(address)
    with pytest.raises(FaultError) as caught, catch_faults():
        python.PyMem_RawFree(address)
    record = record_of(caught.value)
    assert (record.kind, record.distance, record.address) == ("double-free", None, address)
    assert record.block is not None
    assert (record.block.nbytes, record.block.allocator, record.block.is_freed) == (100, "raw", True)
    blocks = [python.PyMem_RawMalloc(100) for _ in range(10)]
    assert len(set(blocks)) == 10
    for one in blocks:
        python.PyMem_RawFree(one)


def test_a_second_free_is_told_with_both_stacks() -> None:
    memprot.guard.enable("raw", after_free="1MiB")
    try:
        first = test_a_second_free_is_told_with_both_stacks.__code__.co_firstlineno
        address = python.PyMem_RawMalloc(100)
        python.PyMem_RawFree(address)
        with pytest.raises(FaultError) as caught, catch_faults():
            python.PyMem_RawFree(address)
    finally:
        memprot.guard.enable("raw", after_free=0)
        memprot.guard.disable("raw")
    record = record_of(caught.value)
    assert record.block is not None
    assert record.python is not None
    lines = [frames[0].line - first for frames in (record.block.allocated, record.block.freed, record.python)]
    assert lines == [4, 5, 7]
    assert "freed a second time" in str(caught.value)


@pytest.mark.parametrize("offset", [1, 16, 99, 104])
def test_freeing_the_middle_of_a_live_block_is_wild(raw: int, offset: int) -> None:
    address = python.PyMem_RawMalloc(100)
    ctypes.memset(address, 7, 100)
    with pytest.raises(FaultError) as caught, catch_faults():
        python.PyMem_RawFree(address + offset)
    record = record_of(caught.value)
    assert (record.kind, record.distance, record.address) == ("wild-free", offset, address + offset)
    assert record.block is not None
    assert (record.block.address, record.block.is_freed) == (address, False)
    assert ctypes.string_at(address, 100) == b"\7" * 100
    python.PyMem_RawFree(address)


def test_freeing_an_address_in_a_guard_is_wild(raw: int) -> None:
    address = python.PyMem_RawMalloc(96)
    with pytest.raises(FaultError) as caught, catch_faults():
        python.PyMem_RawFree(address + 96 + 4096)
    record = record_of(caught.value)
    assert (record.kind, record.block) == ("wild-free", None)
    python.PyMem_RawFree(address)


def test_resizing_what_was_freed_fails_and_is_told(raw: int) -> None:
    address = python.PyMem_RawMalloc(100)
    python.PyMem_RawFree(address)
    with pytest.raises(FaultError) as caught, catch_faults():
        assert python.PyMem_RawRealloc(address, 200) is None
    assert record_of(caught.value).kind == "double-free"


def test_a_policy_that_only_logs_goes_on(raw: int) -> None:
    address = python.PyMem_RawMalloc(100)
    python.PyMem_RawFree(address)
    with catch_faults("log") as scope:
        python.PyMem_RawFree(address)
        python.PyMem_RawFree(address + 8)
    assert [record_of(fault).kind for fault in scope.faults] == ["double-free", "wild-free"]


def test_a_callable_is_asked(raw: int) -> None:
    asked: list[FaultError] = []

    def decide(fault: FaultError) -> Literal["raise"]:
        asked.append(fault)
        return "raise"

    address = python.PyMem_RawMalloc(100)
    python.PyMem_RawFree(address)
    with pytest.raises(FaultError) as caught, catch_faults(decide):
        python.PyMem_RawFree(address)
    assert asked == [caught.value]


@pytest.mark.parametrize("raw", [1 << 20], indirect=True)
def test_each_second_free_is_raised_by_its_own_call(raw: int) -> None:
    address = python.PyMem_RawMalloc(100)
    python.PyMem_RawFree(address)
    kinds = []
    with catch_faults():
        for _ in range(4):
            try:
                python.PyMem_RawFree(address)
            except FaultError as fault:
                kinds.append(record_of(fault).kind)
    assert kinds == ["double-free"] * 4


DOUBLE_FREE = """
import ctypes, memprot.guard
from memprot import catch_faults
from memprot.faults import set_policy
malloc, free = ctypes.pythonapi.PyMem_RawMalloc, ctypes.pythonapi.PyMem_RawFree
malloc.restype = ctypes.c_void_p
malloc.argtypes, free.argtypes, free.restype = (ctypes.c_size_t,), (ctypes.c_void_p,), None
memprot.guard.enable("raw", after_free="1MiB")
address = malloc(100)
free(address)
"""


@pytest.mark.parametrize("policy", ["die", "abort"])
def test_where_the_policy_is_to_die_the_process_dies_of_sigabrt_with_a_report(run_child: RunChild, policy: str) -> None:
    child = run_child(
        f"{DOUBLE_FREE}\nset_policy({policy!r})\nprint('here', flush=True)\nfree(address)\nprint('never')\n"
    )
    assert child.returncode == -signal.SIGABRT
    assert child.stdout == "here\n"
    assert "memprot: fatal second free at 0x" in child.stderr
    assert "of a freed block of 100 bytes" in child.stderr


def test_objects_memory_dies_whatever_the_scope_says(run_child: RunChild) -> None:
    child = run_child("""
import ctypes, memprot.guard
from memprot import catch_faults
malloc, free = ctypes.pythonapi.PyObject_Malloc, ctypes.pythonapi.PyObject_Free
malloc.restype = ctypes.c_void_p
malloc.argtypes, free.argtypes, free.restype = (ctypes.c_size_t,), (ctypes.c_void_p,), None
memprot.guard.enable("obj", after_free="1MiB")
address = malloc(96)
print("here", flush=True)
with catch_faults():
    ctypes.memset(address + 96, 1, 1)
print("never")
""")
    assert child.returncode == -signal.SIGSEGV
    assert child.stdout == "here\n"
    assert "memprot: fatal write" in child.stderr
