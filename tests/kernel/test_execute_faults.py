"""Calls of what is no code: taken back inside a scope where a call is what it was, and deadly where it was a jump."""

import ctypes
import functools
import platform
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults, guarded, protected
from memprot.faults.engine import set_policy

RunChild = Callable[..., subprocess.CompletedProcess[str]]

SETUP = """
import ctypes, mmap
import misbehave
from memprot import PAGE_SIZE, FaultError, Region, catch_faults, guarded
"""
KINDS = {
    "writable": lambda: Region(4 * PAGE_SIZE),
    "shared": lambda: Region(4 * PAGE_SIZE, shared=True),
    "read-only": lambda: Region(4 * PAGE_SIZE, "r--"),
    "hidden": lambda: Region(4 * PAGE_SIZE, "---"),
    "hidden shared": lambda: Region(4 * PAGE_SIZE, "---", shared=True),
}


@pytest.fixture(params=KINDS)
def data(request: pytest.FixtureRequest) -> Iterator[Region]:
    with KINDS[request.param]() as region:
        before = region.prot
        yield region
        assert region.prot == before


def fault_of(act: Callable[[], object]) -> FaultError:
    with pytest.raises(FaultError) as caught, catch_faults():
        act()
    return caught.value


@pytest.mark.parametrize("how", ["call", "call_from_table", "call_for_double"])
def test_a_call_of_data_returns_zero_at_once_and_raises(misbehave: ModuleType, data: Region, how: str) -> None:
    returned = []
    fault = fault_of(lambda: returned.append(getattr(misbehave, how)(data.address + 100)))
    assert returned in ([], [0])
    assert (fault.access, fault.cause, fault.offset) == ("execute", "protection", 100)
    assert (fault.region, fault.others) == (data, ())
    functions = [frame.function for frame in fault.native]
    assert functions[0] is None
    assert functions[1] in ("touch_by_calling", "touch_by_calling_from_table", "value_by_calling")
    assert f"misbehave_{how}" in functions
    assert functions[-1] == "_PyEval_EvalFrameDefault"
    assert fault.record is not None
    assert fault.record.python is not None


def test_a_pointer_to_a_function_that_is_data_raises(data: Region) -> None:
    function = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(data.address)
    assert fault_of(functools.partial(function, 5)).access == "execute"
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(data.address)
    array = (ctypes.c_int * 50)(*range(50, 0, -1))
    fault = fault_of(lambda: ctypes.CDLL(None).qsort(array, 50, 4, callback))
    assert len(fault.others) + 1 > 50
    assert sorted(array) == list(range(1, 51))


def test_what_is_returned_is_zero_whatever_the_type(misbehave: ModuleType) -> None:
    with Region(PAGE_SIZE) as region:
        set_policy("log")
        try:
            assert misbehave.call(region.address) == 0
            assert misbehave.call(region.address, gil=False) == 0
            assert misbehave.call_for_double(region.address) == 0.0
        finally:
            set_policy("die")


def test_a_call_into_a_guard_raises(misbehave: ModuleType) -> None:
    block = guarded(10)
    fault = fault_of(lambda: misbehave.call(block.address + 10))
    assert (fault.access, fault.cause, fault.offset) == ("execute", "guard", 10)


def test_a_call_of_memory_that_was_given_to_protect_raises(misbehave: ModuleType) -> None:
    import mmap

    memory = mmap.mmap(-1, PAGE_SIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    with protected(memory, "r--"):
        assert fault_of(lambda: misbehave.call(start)).access == "execute"


def test_a_call_of_a_page_that_is_open_raises(misbehave: ModuleType, data: Region) -> None:
    call = functools.partial(misbehave.call, data.address)
    fault = fault_of(lambda: misbehave.write_then_call(data.address, 0xC3, call))
    writable = str(data.prot) == "rw-"
    assert [one.access for one in (fault, *fault.others)] == ["execute"] if writable else ["write", "execute"]


def test_threads_have_their_own(misbehave: ModuleType, data: Region) -> None:
    faults: list[FaultError] = []

    def work() -> None:
        for _ in range(50):
            faults.append(fault_of(lambda: misbehave.call(data.address, gil=False)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [fault.access for fault in faults] == ["execute"] * 200
    assert {fault.thread.id for fault in faults if fault.thread} == {thread.native_id for thread in threads}


# What stands between `mov rax, DATA` and `mov eax, 7; ret`; the data begins a page after the code.
FORMS = {
    "register": "ffd0",
    "extended register": "4989c241ffd2",  # mov r10, rax
    "not tracked": "3effd0",
    "an extension without effect": "48ffd0",
    "on the stack": "50ff1424488d642408",  # push rax; call [rsp]; lea rsp, [rsp + 8]
    "one byte of displacement": "5050ff542408488d642410",
    "four bytes of displacement": "5050ff942408000000488d642410",
    "base and index": "50b900000000ff14cc488d642408",  # mov ecx, 0; call [rsp + 8 * rcx]
    "extended base": "504989e341ff13488d642408",  # mov r11, rsp; call [r11]
    "extended base and index": "504989e34531d243ff14d3488d642408",  # xor r10d, r10d; call [r11 + 8 * r10]
    "index without base": "504889e1ff140d00000000488d642408",  # mov rcx, rsp; call [rcx * 1 + 0]
    "relative": "488905ef1f0000ff15e91f0000",  # mov [rip + ...], rax; call [rip + ...]
}
RETURN_7 = bytes.fromhex("b807000000c3")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the forms are machine code of x86-64")
@pytest.mark.parametrize("form", [*FORMS, "direct"])
def test_every_form_of_a_call_is_known(form: str) -> None:
    with Region(3 * PAGE_SIZE) as region:
        load = b"\x48\xb8" + (region.address + PAGE_SIZE + 8).to_bytes(8, "little")
        code = load + bytes.fromhex(FORMS[form]) if form in FORMS else b"\xe8" + (PAGE_SIZE + 3).to_bytes(4, "little")
        region[: len(code)] = code
        region[len(code) : len(code) + len(RETURN_7)] = RETURN_7
        region.protect("r-x", 0, PAGE_SIZE)
        function = ctypes.CFUNCTYPE(ctypes.c_int)(region.address)
        set_policy("log")
        try:
            assert function() == 7
        finally:
            set_policy("die")
        fault = fault_of(function)
        assert (fault.access, fault.offset) == ("execute", PAGE_SIZE + 8)


@pytest.mark.parametrize("scope", [True, False], ids=["in a scope", "outside"])
@pytest.mark.parametrize("prot", ["rw-", "---"])
def test_a_jump_into_data_dies_and_says_where_it_came_from(run_child: RunChild, scope: bool, prot: str) -> None:
    act = "misbehave.jump(region.address)"
    child = run_child(
        f"{SETUP}region = Region(PAGE_SIZE, {prot!r})\n" + (f"with catch_faults():\n    {act}" if scope else act)
    )
    assert child.returncode == -signal.SIGSEGV, child.stderr
    assert "memprot: fatal execution" in child.stderr


def test_a_call_outside_every_scope_dies(run_child: RunChild) -> None:
    child = run_child(f"{SETUP}region = Region(PAGE_SIZE)\nmisbehave.call(region.address)")
    assert child.returncode == -signal.SIGSEGV, child.stderr
    assert "memprot: fatal execution" in child.stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the program is machine code of x86-64")
def test_a_return_into_data_is_no_call(run_child: RunChild) -> None:
    """A return address was overwritten: what lies above it on the stack was left there by another call."""
    child = run_child(f"""{SETUP}
memory = mmap.mmap(-1, PAGE_SIZE, prot=7)
region = Region(PAGE_SIZE)
memory[:12] = b"\\x48\\xb8" + region.address.to_bytes(8, "little") + b"\\x50\\xc3"  # mov rax, region; push rax; ret
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
with catch_faults():
    ctypes.CFUNCTYPE(ctypes.c_int)(start)()
""")
    assert child.returncode == -signal.SIGSEGV, child.stderr
    assert "memprot: fatal execution" in child.stderr
