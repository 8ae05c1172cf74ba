"""What the kernel says of the pages of a buffer, and memory to say it of."""

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from memprot import PAGE_SIZE, AddressSpace
from memprot._native import buffer_range

PAGES = 6
SIZE = PAGES * PAGE_SIZE


def private_pages(pages: int = PAGES) -> mmap.mmap:
    return mmap.mmap(-1, pages * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def shared_pages(pages: int = PAGES) -> mmap.mmap:
    return mmap.mmap(-1, pages * PAGE_SIZE)


def address_of(buffer: object) -> int:
    return buffer_range(buffer)[0]


def protections_at(start: int, pages: int) -> list[str]:
    """The protection of each page; an empty string where nothing is mapped."""
    space = AddressSpace()
    found = (space.find(start + page * PAGE_SIZE) for page in range(pages))
    return ["" if mapping is None else str(mapping.prot) for mapping in found]


def protections(buffer: object) -> list[str]:
    """The protection of each page that a buffer touches."""
    address, size, _ = buffer_range(buffer)
    first = address - address % PAGE_SIZE
    return protections_at(first, (address + size - first + PAGE_SIZE - 1) // PAGE_SIZE)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def unmap_behind_its_back(start: int, pages: int) -> None:
    assert _libc.munmap(start, pages * PAGE_SIZE) == 0


@contextmanager
def another_process_sees(content: Callable[[], bytes], expected: bytes) -> Iterator[None]:
    """A child looks at shared memory until the block ends, and must find what is expected each time."""
    ended, end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(end)
            os.set_blocking(ended, False)
            status = 0
            while status == 0:
                status = int(content() != expected)
                try:
                    if os.read(ended, 1) == b"":
                        break
                except BlockingIOError:
                    continue
        finally:
            os._exit(status)
    os.close(ended)
    try:
        yield
    finally:
        os.close(end)
        status = os.waitpid(child, 0)[1]
    assert status == 0
