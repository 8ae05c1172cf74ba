"""What the kernel says of the pages of a buffer, and memory to say it of."""

import ctypes
import mmap

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
