"""What madvise(2) and process_madvise(2) can be told.

Source: include/uapi/asm-generic/mman-common.h.

>>> from memprot.flags import Advice
>>> Advice(21).name
'PAGEOUT'
"""

from enum import IntEnum

__all__ = ["Advice"]


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
