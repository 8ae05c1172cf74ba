"""Sealing: memory that stays as it is until the process ends.

>>> from memprot import ProtectionError, Region, seal
>>> region = Region(4096)
>>> region.protect("r--")
>>> seal(region)
>>> try:
...     region.protect("rw-")
... except ProtectionError as error:
...     print(error.strerror)
Operation not permitted
"""

from __future__ import annotations

import errno as numbers
from typing import Final

import memprot._native as _native
import memprot.calls as calls
from memprot.errors import ProtectionError
from memprot.memory.protection import prepared
from memprot.reason import Reason

__all__ = ["seal"]

# The kernel gives sealed memory to nobody else; neither may an allocator, so the buffers are held for good.
_held: Final[list[_native.Protection]] = []


def seal(target: object, *, neighbours: bool = False) -> None:
    """Seal the pages that hold a buffer: nothing can unmap, move or re-protect them any more, until the process ends.

    There is no way back, not for root either. What they hold may still be written if their protection permits it, so
    protect first and seal then. The buffer is held for good; a sealed :class:`memprot.Region` may be closed, and its
    memory stays all the same. A blocked access to sealed memory cannot be recovered: nothing can be put in its place
    for a moment, so it is reported and the process dies.

    An empty buffer has no pages: nothing is done.

    :param target: any object with a buffer, also a read-only one.
    :param neighbours: seal whatever else lives in the first and the last page too.
    :raises TypeError: the target has no buffer.
    :raises ValueError: the target is closed or released, or not contiguous.
    :raises memprot.ProtectionError: a page is shared (``Reason.SHARED_PAGE``), or the kernel cannot seal
        (``Reason.NOT_SUPPORTED``, ENOSYS).

    Source: mseal(2), Documentation/userspace-api/mseal.rst.

    >>> import mmap
    >>> from memprot import protect, seal
    >>> memory = mmap.mmap(-1, 4096)
    >>> protect(memory, "r--")
    >>> seal(memory)
    """
    protection = prepared(target, 0, neighbours, "seal")
    start, stop = protection.pages
    if start == stop:
        return
    _native.close_open_pages(start, stop)  # a decoy that is sealed could never be taken back
    try:
        calls.mseal(start, stop - start)
    except ProtectionError as error:
        if error.errno == numbers.ENOSYS:
            raise _unsupported(start, stop) from None
        raise
    if not _native.seal_region(start, stop):
        _held.append(protection)


def _unsupported(start: int, stop: int) -> ProtectionError:
    return ProtectionError(
        numbers.ENOSYS,
        "mseal",
        (start, stop - start, 0),
        reason=Reason.NOT_SUPPORTED,
        explanation="this kernel cannot seal memory; nothing was changed",
        hint="Linux 6.10 and later can, on 64-bit machines; until then protect() keeps what nobody undoes",
    )
