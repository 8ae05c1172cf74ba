"""Whose bytes a page holds: what else lives in the first and the last page of a buffer."""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import TYPE_CHECKING, Any

import memprot._native as _native
from memprot.prot import PAGE_SIZE
from memprot.space.maps import AddressSpace

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["is_raw", "owner", "raw_pages", "strangers"]

# Nothing else is ever put into the pages of these: the kernel fills the rest of the last one with zeros, or with what
# the file has there, and nobody is given it.
_OWNERS_OF_PAGES = (mmap.mmap, _native.Region)


def owner(target: Any) -> Any:
    """The object that the memory of a buffer belongs to: the last one in the chain of views.

    :param target: an object with a buffer.

    >>> owner(memoryview(bytearray(b"owned"))[1:])
    bytearray(b'owned')
    """
    while True:
        below = _below(target)
        if below is None or below is target:
            return target
        target = below


def _below(target: Any) -> Any:
    if isinstance(target, memoryview):
        return target.obj
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(target, numpy.ndarray):
        return target.base if _has_buffer(target.base) else None
    if isinstance(target, (ctypes.Array, ctypes.Structure, ctypes.Union, ctypes._SimpleCData)):
        whole = target._b_base_
        kept = target._objects
        views = list(kept.values()) if isinstance(kept, dict) else []
        return whole if whole is not None else next((view for view in views if isinstance(view, memoryview)), None)
    return None


def _has_buffer(candidate: object) -> bool:
    try:
        memoryview(candidate)  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):
        return False
    return True


def is_raw(candidate: object, told: bool) -> bool:
    """Whether a buffer's bytes are data, not references to objects; some arrays have a type that no format expresses.

    :param candidate: an object with a buffer.
    :param told: what the buffer's format says.

    >>> is_raw(b"data", True)
    True
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(candidate, numpy.ndarray):
        return not candidate.dtype.hasobject
    return told


def _owned(target: object) -> tuple[int, int, bool]:
    """The addresses that are the owner's, whole pages where nobody else is given the rest of them; whether raw."""
    whose = owner(target)
    start, size, raw = _native.buffer_range(whose)
    stop = start + size
    if isinstance(whose, _OWNERS_OF_PAGES):
        start, stop = start - start % PAGE_SIZE, stop + -stop % PAGE_SIZE
    return start, stop, is_raw(whose, raw)


def raw_pages(protection: _native.Protection, target: object) -> tuple[int, int]:
    """Those of a protection's pages that hold raw data of the target's owner and nothing else, as a range.

    :param protection: of the target.
    :param target: the buffer.

    >>> import mmap
    >>> memory = mmap.mmap(-1, 100)
    >>> protection = _native.Protection(memory, 1)
    >>> raw_pages(protection, memory) == protection.pages
    True
    """
    first, last = protection.pages
    start, stop, raw = _owned(target)
    start, stop = max(first, start + -start % PAGE_SIZE), min(last, stop - stop % PAGE_SIZE)
    return (start, stop) if raw and start < stop else (first, first)


def strangers(protection: _native.Protection, target: object) -> Iterator[tuple[int, int, str]]:
    """The pages that also hold bytes outside the target: start, stop, and what they are.

    :param protection: of the target.
    :param target: the buffer.

    >>> array = bytearray(100)
    >>> [(stop - start) // PAGE_SIZE for start, stop, text in strangers(_native.Protection(array, 1), array)]
    [1, 1]
    """
    first, last = protection.pages
    start, stop = protection.address, protection.address + protection.size
    whose = owner(target)
    own_start, own_size, _ = _native.buffer_range(whose)
    for low, high, page in ((first, start, first), (stop, last, last - PAGE_SIZE)):
        inside = max(low, own_start) < min(high, own_start + own_size)
        outside = low < own_start or high > own_start + own_size
        # The rest of a Region's or an mmap's pages is nobody's.
        if low < high and (inside or (outside and not isinstance(whose, _OWNERS_OF_PAGES))):
            yield page, page + PAGE_SIZE, _words(whose, page, inside, outside)


def _words(whose: object, page: int, inside: bool, outside: bool) -> str:
    kind = type(whose).__name__
    if page <= id(whose) < page + PAGE_SIZE and outside:
        return f"the {kind} object itself, and whatever the allocator put beside it"
    if inside:
        return f"other bytes of the same {kind}"
    mapping = AddressSpace().find(page)
    if mapping is None:
        return "other bytes"
    if mapping.kind == "heap":
        return "bytes of the heap: other objects of malloc"
    if mapping.path is not None:
        return f"other bytes of {mapping.path}"
    return "other bytes of anonymous memory: what malloc or Python put beside it"
