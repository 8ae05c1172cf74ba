"""Flags of mmap(2), mremap(2) and msync(2).

Source: include/uapi/asm-generic/mman-common.h, mman.h, hugetlb_encode.h, include/uapi/linux/mman.h,
arch/x86/include/uapi/asm/mman.h.

>>> from memprot.flags import MapFlag
>>> hex(MapFlag.PRIVATE | MapFlag.ANONYMOUS)
'0x22'
"""

import os
from enum import IntFlag

__all__ = ["HUGE_MASK", "HUGE_SHIFT", "MAP_TYPE", "MapFlag", "RemapFlag", "SyncFlag"]

MAP_TYPE = 0x0F
"""The bits of :class:`MapFlag` that say shared, private, validated or droppable."""
HUGE_SHIFT = 26
"""Where :class:`MapFlag` and :class:`MemfdFlag` hold the base-2 logarithm of the huge page size."""
HUGE_MASK = 0x3F
"""How much of them that is, after the shift."""

_X86 = os.uname().machine in ("x86_64", "i686", "i386")


class MapFlag(IntFlag):
    """What mmap(2) takes as flags: one of ``SHARED``, ``PRIVATE``, ``SHARED_VALIDATE``, and any of the rest.

    >>> from memprot.flags import MapFlag
    >>> MapFlag.PRIVATE | MapFlag.ANONYMOUS
    <MapFlag.PRIVATE|ANONYMOUS: 34>
    """

    FILE = 0
    """Nothing: the default, a mapping of a file."""
    SHARED = 0x01
    """Writes reach the file and everybody who maps it."""
    PRIVATE = 0x02
    """Writes make private copies."""
    SHARED_VALIDATE = 0x03
    """As SHARED, and an unknown flag is an error."""
    DROPPABLE = 0x08
    """Pages may be dropped and read as zero under memory pressure (Linux 6.11)."""
    FIXED = 0x10
    """At that address and no other; what was there is unmapped."""
    ANONYMOUS = 0x20
    """No file: memory that starts as zeros."""
    if _X86:
        MAP_32BIT = 0x40
        """In the low 2 GiB of addresses (x86)."""
        ABOVE4G = 0x80
        """Only above 4 GiB (x86)."""
    GROWSDOWN = 0x0100
    """The mapping grows towards lower addresses when the page below it is touched, as a stack does."""
    DENYWRITE = 0x0800
    """Ignored."""
    EXECUTABLE = 0x1000
    """Ignored."""
    LOCKED = 0x2000
    """Pages are locked into memory."""
    NORESERVE = 0x4000
    """No swap space is reserved."""
    POPULATE = 0x8000
    """Page tables are filled at once."""
    NONBLOCK = 0x010000
    """With POPULATE: only what needs no reading."""
    STACK = 0x020000
    """An address that suits a thread's stack; does nothing at present."""
    HUGETLB = 0x040000
    """Huge pages; of the default size, or of the one that a HUGE flag says."""
    SYNC = 0x080000
    """A write to persistent memory has reached it when the write is done (SHARED_VALIDATE only)."""
    FIXED_NOREPLACE = 0x100000
    """At that address and no other, or EEXIST where something is mapped."""
    UNINITIALIZED = 0x4000000
    """Memory is not cleared (machines without a memory management unit only)."""
    HUGE_16KB = 14 << HUGE_SHIFT
    HUGE_64KB = 16 << HUGE_SHIFT
    HUGE_512KB = 19 << HUGE_SHIFT
    HUGE_1MB = 20 << HUGE_SHIFT
    HUGE_2MB = 21 << HUGE_SHIFT
    HUGE_8MB = 23 << HUGE_SHIFT
    HUGE_16MB = 24 << HUGE_SHIFT
    HUGE_32MB = 25 << HUGE_SHIFT
    HUGE_256MB = 28 << HUGE_SHIFT
    HUGE_512MB = 29 << HUGE_SHIFT
    HUGE_1GB = 30 << HUGE_SHIFT
    HUGE_2GB = 31 << HUGE_SHIFT
    HUGE_16GB = 34 << HUGE_SHIFT


class RemapFlag(IntFlag):
    """What mremap(2) takes as flags.

    >>> from memprot.flags import RemapFlag
    >>> RemapFlag.MAYMOVE | RemapFlag.FIXED
    <RemapFlag.MAYMOVE|FIXED: 3>
    """

    MAYMOVE = 1
    """Another address will do."""
    FIXED = 2
    """At the new address and no other, with MAYMOVE; what was there is unmapped."""
    DONTUNMAP = 4
    """The old addresses stay mapped and read as zeros, with MAYMOVE (Linux 5.7)."""


class SyncFlag(IntFlag):
    """What msync(2) takes as flags: ASYNC or SYNC, perhaps with INVALIDATE.

    >>> from memprot.flags import SyncFlag
    >>> SyncFlag.SYNC | SyncFlag.INVALIDATE
    <SyncFlag.INVALIDATE|SYNC: 6>
    """

    ASYNC = 1
    """Written some time; Linux does that anyway."""
    INVALIDATE = 2
    """Refused with EBUSY where the range holds locked memory; does nothing else."""
    SYNC = 4
    """Written before the call returns."""
