"""The functions of libc whose implementation is chosen for the CPU have their public names in a FaultError."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from memprot import PAGE_SIZE, FaultError, Region, _native, catch_faults

SIZE = 4 * PAGE_SIZE


def blocked(access: Callable[[int], object]) -> FaultError:
    """The fault of a foreign write to the address of a read-only page."""
    region = Region(SIZE)
    region.protect("r--")
    with pytest.raises(FaultError) as caught, catch_faults():
        access(region.address)
    return caught.value


@pytest.mark.parametrize(
    ("name", "access"),
    [
        ("memmove", lambda address: ctypes.memmove(address, b"x" * SIZE, SIZE)),
        ("memset", lambda address: ctypes.memset(address, 1, SIZE)),
        ("memmove", lambda address: ctypes.memmove(address + 5, b"x", 1)),
        ("memset", lambda address: ctypes.memset(address + 5, 1, 33)),
    ],
)
def test_a_fault_in_a_function_of_libc_has_its_name(name: str, access: Callable[[int], object]) -> None:
    frame = blocked(access).native[0]
    assert frame.function is not None
    # A libc with a full symbol table has the implementation's own, longer name.
    assert re.search(name, frame.function)
    assert frame.library is not None
    assert "libc" in frame.library
    assert frame.offset is not None
    assert 0 <= frame.offset < 1 << 16


def test_the_name_is_found_by_the_offset_in_the_file_too() -> None:
    frame = blocked(lambda address: ctypes.memset(address, 1, SIZE)).native[0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        start, stop = (int(part, 16) for part in fields[0].split("-"))
        if start <= frame.address < stop:
            found = _native.symbol_at_file_offset(fields[5], frame.address - start + int(fields[2], 16))
            assert (found[0], found[2]) == (frame.function, frame.offset)
            break
    else:
        pytest.fail("no mapping has the frame's address")
