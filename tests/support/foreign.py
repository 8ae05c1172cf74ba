"""Memory that memprot did not allocate, of every kind that holds raw data: pages of a buffer, whole."""

import array
import ctypes
import mmap
import os
import tempfile
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from typing import Any, Final

import numpy
from pages import PAGES, SIZE, address_of, private_pages, shared_pages

from memprot import PAGE_SIZE, Region

Pages = Any


def within(buffer: Any) -> Pages:
    """Whole pages of data from within a buffer that is at least one page larger."""
    lead = -address_of(buffer) % PAGE_SIZE
    return memoryview(buffer).cast("B")[lead : lead + SIZE]


def _file(size: int = SIZE) -> Any:
    file = tempfile.TemporaryFile()  # noqa: SIM115 (its mapping outlives it)
    file.truncate(size)
    return file


def _mapped_file(flags: int) -> Pages:
    with _file() as file:
        return mmap.mmap(file.fileno(), SIZE, flags=flags)


def _memory_file(flags: int) -> Pages:
    fd = os.memfd_create("foreign")
    os.truncate(fd, SIZE)
    made = mmap.mmap(fd, SIZE, flags=flags)
    os.close(fd)
    return made


def _numpy_map(mode: Any) -> Pages:
    with _file() as file:
        return numpy.memmap(file, "u1", mode, shape=SIZE)


class _Shared(SharedMemory):
    """Its name is given back when the memory is made, the memory itself when the last view is gone."""

    def __del__(self) -> None:
        pass


def _shared_memory() -> Pages:
    made = _Shared(create=True, size=SIZE)
    made.unlink()
    view = made._mmap  # type: ignore[attr-defined]
    return numpy.frombuffer(view, "u1")


def _region_of_file(shared: bool) -> Pages:
    with _file() as file:
        return Region.from_file(file, "rw-", shared=shared)


def _huge() -> Pages:
    huge = 2 << 20
    memory = mmap.mmap(-1, 3 * huge, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    lead = -address_of(memory) % huge
    return memoryview(memory)[lead : lead + SIZE]


def _locked() -> Pages:
    memory = private_pages()
    ctypes.CDLL(None).mlock(ctypes.c_void_p(address_of(memory)), ctypes.c_size_t(SIZE))
    return memory


SHARED: Final = (
    "shared mmap",
    "shared file",
    "shared memory file",
    "shared memory",
    "memmap",
    "shared Region",
    "Region of a file",
)
KINDS: Final[dict[str, Callable[[], Pages]]] = {
    "private mmap": private_pages,
    "shared mmap": shared_pages,
    "private file": lambda: _mapped_file(mmap.MAP_PRIVATE),
    "shared file": lambda: _mapped_file(mmap.MAP_SHARED),
    "private memory file": lambda: _memory_file(mmap.MAP_PRIVATE),
    "shared memory file": lambda: _memory_file(mmap.MAP_SHARED),
    "shared memory": _shared_memory,
    "small array": lambda: within(numpy.zeros(SIZE + PAGE_SIZE, "u1")),
    "large array": lambda: within(numpy.zeros(40 << 20, "u1")),
    "array over an mmap": lambda: numpy.frombuffer(private_pages(), "f8"),
    "memmap": lambda: _numpy_map("r+"),
    "memmap, copy on write": lambda: _numpy_map("c"),
    "bytearray": lambda: within(bytearray(SIZE + PAGE_SIZE)),
    "array.array": lambda: within(array.array("d", bytes(SIZE + PAGE_SIZE))),
    "ctypes array": lambda: within((ctypes.c_char * (SIZE + PAGE_SIZE))()),
    "part of an mmap": lambda: memoryview(private_pages(PAGES + 2))[PAGE_SIZE:-PAGE_SIZE],
    "bytes": lambda: within(bytes(SIZE + PAGE_SIZE)),
    "locked": _locked,
    "huge pages": _huge,
    "Region": lambda: Region(SIZE),
    "shared Region": lambda: Region(SIZE, shared=True),
    "Region of a file": lambda: _region_of_file(True),
    "Region of a private file": lambda: _region_of_file(False),
}
