"""Bugs in C that has been given buffers of Python's own objects."""

import ctypes
import mmap
import tempfile
from typing import Any

import numpy

from tests.seeded.bug import seeded


# CPython gives a bytearray one byte more than its length, so that the block ends at 64.
@seeded("buffers.c", "overflow", "write", distance=0, size=1, guard="obj")
def past_a_bytearray(code: Any) -> None:
    """The end of a line is written behind a bytearray."""
    line = bytearray(63)  # allocated
    code.end_line((ctypes.c_char * len(line)).from_buffer(line), len(line))  # fault


@seeded("buffers.c", "overflow", "write", distance=0, size=4, guard="mem")
def past_a_ctypes_array(code: Any) -> None:
    """A loop writes one element past an array of ctypes."""
    numbers = (ctypes.c_int * 100)()  # allocated
    code.count_up(numbers, len(numbers))  # fault


# A bytes object has 32 bytes in front and one behind.
@seeded("buffers.c", "overflow", "read", distance=0, size=1, guard="obj")
def past_bytes(code: Any) -> None:
    """The checksum's bytes are counted twice and read behind a bytes object."""
    message = bytes(1007)  # allocated
    code.checksum(message, len(message))  # fault


@seeded("buffers.c", "protection", "write", distance=None, size=1, guard=None)
def write_to_a_read_only_map(code: Any) -> None:
    """A table that is mapped for reading is changed in place."""
    with tempfile.TemporaryFile() as file:
        file.write(b"A" * 4096)
        file.flush()
        table = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
    code.lower(numpy.frombuffer(table, "u1").ctypes, 100)  # fault
