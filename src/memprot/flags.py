"""The flags of the memory system calls, named as the man pages name them without their prefix.

Every constant of the kernel's headers is here, also those that this machine's headers do not know yet: a
kernel that lacks one answers EINVAL or, for most ``MapFlag``s, ignores it.

Source: include/uapi/asm-generic/mman-common.h, mman.h, hugetlb_encode.h, include/uapi/linux/mman.h, memfd.h,
arch/x86/include/uapi/asm/mman.h.

>>> from memprot.flags import MapFlag
>>> hex(MapFlag.PRIVATE | MapFlag.ANONYMOUS)
'0x22'
"""

import os
from enum import IntEnum, IntFlag

__all__ = ["HUGE_MASK", "HUGE_SHIFT", "MAP_TYPE", "Advice", "MapFlag", "MemfdFlag"]

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


class Advice(IntEnum):
    """What madvise(2) takes as advice: one at a time.

    >>> from memprot.flags import Advice
    >>> int(Advice.DONTNEED)
    4
    """

    NORMAL = 0
    """No special treatment."""
    RANDOM = 1
    """Pages will be read in no order: no read-ahead."""
    SEQUENTIAL = 2
    """Pages will be read in order: much read-ahead."""
    WILLNEED = 3
    """Pages will be needed soon: read them now."""
    DONTNEED = 4
    """Drop the pages now; private memory reads as zeros afterwards, a file is read again."""
    FREE = 8
    """Pages may be dropped under memory pressure, until they are written again."""
    REMOVE = 9
    """Punch a hole into the file behind a shared mapping."""
    DONTFORK = 10
    """A child does not get these pages."""
    DOFORK = 11
    """Undoes DONTFORK."""
    MERGEABLE = 12
    """Pages of equal content may be merged (KSM)."""
    UNMERGEABLE = 13
    """Undoes MERGEABLE."""
    HUGEPAGE = 14
    """Transparent huge pages are welcome."""
    NOHUGEPAGE = 15
    """No transparent huge pages."""
    DONTDUMP = 16
    """Left out of core dumps."""
    DODUMP = 17
    """Undoes DONTDUMP."""
    WIPEONFORK = 18
    """A child finds zeros here."""
    KEEPONFORK = 19
    """Undoes WIPEONFORK."""
    COLD = 20
    """First to go under memory pressure."""
    PAGEOUT = 21
    """Write out and free now."""
    POPULATE_READ = 22
    """Fill the page tables as reads would."""
    POPULATE_WRITE = 23
    """Fill the page tables as writes would."""
    DONTNEED_LOCKED = 24
    """As DONTNEED, also for locked pages."""
    COLLAPSE = 25
    """Make transparent huge pages of them now."""
    HWPOISON = 100
    """Treat the pages as broken hardware (privileged, for tests)."""
    SOFT_OFFLINE = 101
    """Move the content elsewhere and use the pages no more (privileged, for tests)."""
    GUARD_INSTALL = 102
    """Every access faults, without a mapping of its own; anonymous content is dropped (Linux 6.13)."""
    GUARD_REMOVE = 103
    """Undoes GUARD_INSTALL; anonymous pages read as zeros."""


class MemfdFlag(IntFlag):
    """What memfd_create(2) takes as flags.

    >>> from memprot.flags import MemfdFlag
    >>> MemfdFlag.CLOEXEC | MemfdFlag.ALLOW_SEALING
    <MemfdFlag.CLOEXEC|ALLOW_SEALING: 3>
    """

    CLOEXEC = 0x0001
    """The descriptor is closed by execve(2)."""
    ALLOW_SEALING = 0x0002
    """Seals may be put on the file (fcntl(2), F_ADD_SEALS)."""
    HUGETLB = 0x0004
    """Huge pages; of the default size, or of the one that a HUGE flag says."""
    NOEXEC_SEAL = 0x0008
    """Not executable, and sealed so (Linux 6.3)."""
    EXEC = 0x0010
    """Executable (Linux 6.3)."""
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
