"""The native stack of a fault: with unwind tables, without them, and on a stack that makes no sense."""

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memprot import PAGE_SIZE, FaultError, Region, calls, catch_faults
from memprot.flags import MapFlag

SOURCE = """\
#include <stdint.h>
#define FUNCTION __attribute__((noinline, noclone)) void
static volatile int after;

FUNCTION store(volatile char *at) { *at = 7; after = 1; }
FUNCTION first(char *at) { store(at); after = 2; }
FUNCTION other(char *at) { store(at); after = 3; }
FUNCTION outer(char *at) { first(at); after = 4; }

// Its callers are hidden while it stores.
FUNCTION store_on_garbage(volatile char *at, uintptr_t back, uintptr_t frame) {
    volatile uintptr_t *record = __builtin_frame_address(0);
    uintptr_t saved_frame = record[0], saved_back = record[1];
    record[0] = frame;
    record[1] = back;
    *at = 7;
    record[0] = saved_frame;
    record[1] = saved_back;
}
"""
NO_TABLES = ("-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-exceptions")
WITH_POINTER = "-fno-omit-frame-pointer"
WITHOUT_POINTER = "-fomit-frame-pointer"

Touch = Callable[..., FaultError]


@pytest.fixture
def region() -> Iterator[Region]:
    with Region(PAGE_SIZE, "r--") as region:
        yield region
        assert region.read() == bytes(PAGE_SIZE)


def fault_of(function: Any, region: Region, *arguments: int) -> FaultError:
    function.argtypes = (ctypes.c_void_p,) * (1 + len(arguments))
    with pytest.raises(FaultError) as caught, catch_faults():
        function(region.address, *arguments)
    return caught.value


def compiled(folder: Path, *options: str) -> ctypes.CDLL:
    (folder / "source.c").write_text(SOURCE)
    library = folder / "library.so"
    command = ["cc", "-shared", "-fPIC", "-O1", *options, "-o", str(library), "source.c"]
    subprocess.run(command, check=True, cwd=folder)
    return ctypes.CDLL(str(library))


def functions_of(fault: FaultError) -> list[str | None]:
    return [frame.function for frame in fault.native]


@pytest.mark.parametrize("options", [(), NO_TABLES], ids=["tables", "no tables"])
@pytest.mark.parametrize("pointer", [WITH_POINTER, WITHOUT_POINTER], ids=["frame pointer", "no frame pointer"])
def test_the_functions_are_named_as_far_as_their_stack_tells(
    tmp_path: Path, region: Region, options: tuple[str, ...], pointer: str
) -> None:
    library = compiled(tmp_path, *options, pointer)
    for _ in range(3):
        fault = fault_of(library.outer, region)
        names = functions_of(fault)
        assert names[0] == "store"
        if not options or pointer == WITH_POINTER:
            assert names[:3] == ["store", "first", "outer"]
            assert len(names) > 3
        if not options:
            assert "ffi" in (fault.native[3].library or "")


def test_a_fault_that_is_met_again_has_the_stack_of_that_time(tmp_path: Path, region: Region) -> None:
    library = compiled(tmp_path)
    for _ in range(5):
        assert functions_of(fault_of(library.first, region))[:2] == ["store", "first"]
        assert functions_of(fault_of(library.other, region))[:2] == ["store", "other"]


def test_machine_code_made_at_run_time_has_its_caller(region: Region) -> None:
    codes = {"x86_64": b"\xc6\x07\x07\xc3", "aarch64": bytes.fromhex("e1008052 01000039 c0035fd6")}
    page = calls.mmap(0, PAGE_SIZE, 3, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
    ctypes.memmove(page, codes[os.uname().machine], len(codes[os.uname().machine]))
    calls.mprotect(page, PAGE_SIZE, 5)
    fault = fault_of(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(page), region)
    calls.munmap(page, PAGE_SIZE)
    made, caller = fault.native[:2]
    assert (made.function, made.library, made.source) == (None, None, None)
    assert str(made).startswith("code made at run time, 0x")
    assert "ffi" in (caller.library or "")


READABLE = 0x10  # stands for a page of data


@pytest.mark.parametrize("back", [0, 1, READABLE, 0x4141414141414141, 2**64 - 8], ids=hex)
@pytest.mark.parametrize("frame", [0, 1, READABLE, 0x4141414141414141, 2**64 - 8], ids=hex)
@pytest.mark.parametrize("options", [(), NO_TABLES], ids=["tables", "no tables"])
def test_an_overwritten_stack_ends_the_walk_and_nothing_else(
    tmp_path: Path, region: Region, back: int, frame: int, options: tuple[str, ...]
) -> None:
    data = ctypes.create_string_buffer(b"A" * 4096)
    readable = ctypes.addressof(data) + 2048 & ~7
    garbage = [readable if value == READABLE else value for value in (back, frame)]
    library = compiled(tmp_path, *options, WITH_POINTER)
    for _ in range(3):
        fault = fault_of(library.store_on_garbage, region, *garbage)
        assert functions_of(fault)[0] == "store_on_garbage"
        assert (fault.access, fault.offset) == ("write", 0)
    # Nothing of it stays behind: the next fault has a whole stack.
    assert functions_of(fault_of(library.outer, region))[:3] == ["store", "first", "outer"]
