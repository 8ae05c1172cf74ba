"""What a process denies itself (prctl(2)), and whose habits the kernel shows it (personality(2)).

Source: include/uapi/linux/prctl.h, include/uapi/linux/personality.h.

>>> from memprot.flags import DenyWriteExecute
>>> DenyWriteExecute(3)
<DenyWriteExecute.REFUSE_EXEC_GAIN|NO_INHERIT: 3>
"""

from enum import KEEP, IntEnum, IntFlag

__all__ = ["DenyWriteExecute", "ExecutionDomain", "Personality"]


class DenyWriteExecute(IntFlag):
    """What PR_SET_MDWE takes: memory that is not executable never becomes so.

    >>> from memprot.flags import DenyWriteExecute
    >>> int(DenyWriteExecute.REFUSE_EXEC_GAIN)
    1
    """

    REFUSE_EXEC_GAIN = 1
    """No new memory that is writable and executable, and no mapping that becomes executable (Linux 6.3)."""
    NO_INHERIT = 2
    """With REFUSE_EXEC_GAIN: children made by fork(2) are free of it (Linux 6.6)."""


class Personality(IntFlag, boundary=KEEP):
    """The flags of personality(2), in its upper bytes; the lowest byte is an :class:`ExecutionDomain`.

    >>> from memprot.flags import Personality
    >>> Personality.READ_IMPLIES_EXEC | Personality.ADDR_NO_RANDOMIZE
    <Personality.ADDR_NO_RANDOMIZE|READ_IMPLIES_EXEC: 4456448>
    """

    UNAME26 = 0x0020000
    """uname(2) tells a version 2.6."""
    ADDR_NO_RANDOMIZE = 0x0040000
    """Addresses are the same at every start."""
    FDPIC_FUNCPTRS = 0x0080000
    """Pointers to signal handlers point to descriptors."""
    MMAP_PAGE_ZERO = 0x0100000
    """Programs start with a readable page at address 0."""
    ADDR_COMPAT_LAYOUT = 0x0200000
    """Mappings are laid out from low addresses upwards, as old kernels did."""
    READ_IMPLIES_EXEC = 0x0400000
    """mmap and mprotect add EXEC wherever READ is asked for, except on noexec mounts."""
    ADDR_LIMIT_32BIT = 0x0800000
    """Addresses of 32 bits (where the architecture looks at it)."""
    SHORT_INODE = 0x1000000
    """Inode numbers of 16 bits; ignored."""
    WHOLE_SECONDS = 0x2000000
    """Times of files in whole seconds; ignored."""
    STICKY_TIMEOUTS = 0x4000000
    """select(2) and its kin leave the timeout as it was given."""
    ADDR_LIMIT_3GB = 0x8000000
    """32-bit programs get 3 GiB of addresses."""


class ExecutionDomain(IntEnum):
    """Whose system the kernel imitates: the lowest byte of a personality, with the flags that belong to it.

    Since Linux 4.1 none of them but LINUX and LINUX32 does more than its flags say.

    >>> from memprot.flags import ExecutionDomain
    >>> int(ExecutionDomain.LINUX32)
    8
    """

    LINUX = 0x0000
    LINUX_32BIT = 0x0000 | Personality.ADDR_LIMIT_32BIT
    LINUX_FDPIC = 0x0000 | Personality.FDPIC_FUNCPTRS
    SVR4 = 0x0001 | Personality.STICKY_TIMEOUTS | Personality.MMAP_PAGE_ZERO
    SVR3 = 0x0002 | Personality.STICKY_TIMEOUTS | Personality.SHORT_INODE
    SCOSVR3 = 0x0003 | Personality.STICKY_TIMEOUTS | Personality.WHOLE_SECONDS | Personality.SHORT_INODE
    OSR5 = 0x0003 | Personality.STICKY_TIMEOUTS | Personality.WHOLE_SECONDS
    WYSEV386 = 0x0004 | Personality.STICKY_TIMEOUTS | Personality.SHORT_INODE
    ISCR4 = 0x0005 | Personality.STICKY_TIMEOUTS
    BSD = 0x0006
    SUNOS = 0x0006 | Personality.STICKY_TIMEOUTS
    XENIX = 0x0007 | Personality.STICKY_TIMEOUTS | Personality.SHORT_INODE
    LINUX32 = 0x0008
    LINUX32_3GB = 0x0008 | Personality.ADDR_LIMIT_3GB
    IRIX32 = 0x0009 | Personality.STICKY_TIMEOUTS
    IRIXN32 = 0x000A | Personality.STICKY_TIMEOUTS
    IRIX64 = 0x000B | Personality.STICKY_TIMEOUTS
    RISCOS = 0x000C
    SOLARIS = 0x000D | Personality.STICKY_TIMEOUTS
    UW7 = 0x000E | Personality.STICKY_TIMEOUTS | Personality.MMAP_PAGE_ZERO
    OSF4 = 0x000F
    HPUX = 0x0010
    MASK = 0x00FF
