"""The memory system calls, exactly as the kernel has them.

Each is the C function itself, with the arguments in the order of the man page. An argument is an int (or an
IntFlag) and reaches the kernel as a whole 64-bit register, so that what the kernel refuses is refused by the
kernel. A failure is a :class:`memprot.ProtectionError` with the kernel's errno. The flags of
:mod:`memprot.flags` are here under the same names.

>>> from memprot import PAGE_SIZE, Prot, calls
>>> page = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, calls.MapFlag.PRIVATE | calls.MapFlag.ANONYMOUS)
>>> calls.mprotect(page, PAGE_SIZE, Prot.READ)
>>> calls.munmap(page, PAGE_SIZE)
"""

import memprot._native as _native
from memprot._native import (
    brk,
    get_mempolicy,
    madvise,
    mbind,
    memfd_create,
    memfd_secret,
    mincore,
    mlock,
    mlock2,
    mlockall,
    mmap,
    move_pages,
    mprotect,
    mremap,
    mseal,
    msync,
    munlock,
    munlockall,
    munmap,
    pkey_alloc,
    pkey_free,
    pkey_mprotect,
    pkey_set,
    process_madvise,
    sbrk,
    set_mdwe,
    set_mempolicy,
    set_name,
    shm_open,
    shm_unlink,
)
from memprot.flags import (
    Advice,
    DenyWriteExecute,
    ExecutionDomain,
    KeyRights,
    LockAllFlag,
    LockFlag,
    MapFlag,
    MemfdFlag,
    NumaFlag,
    NumaMode,
    NumaModeFlag,
    Personality,
    RemapFlag,
    Seal,
    SecretFlag,
    SyncFlag,
)

__all__ = [
    "Advice",
    "DenyWriteExecute",
    "ExecutionDomain",
    "KeyRights",
    "LockAllFlag",
    "LockFlag",
    "MapFlag",
    "MemfdFlag",
    "NumaFlag",
    "NumaMode",
    "NumaModeFlag",
    "Personality",
    "RemapFlag",
    "Seal",
    "SecretFlag",
    "SyncFlag",
    "brk",
    "get_mdwe",
    "get_mempolicy",
    "madvise",
    "mbind",
    "memfd_create",
    "memfd_secret",
    "mincore",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "move_pages",
    "mprotect",
    "mremap",
    "mseal",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "personality",
    "pkey_alloc",
    "pkey_free",
    "pkey_get",
    "pkey_mprotect",
    "pkey_set",
    "process_madvise",
    "sbrk",
    "set_mdwe",
    "set_mempolicy",
    "set_name",
    "shm_open",
    "shm_unlink",
]


def pkey_get(key: int) -> KeyRights:
    """What the calling thread may not do with the pages of a protection key.

    :param key: from :func:`pkey_alloc`; 0 is the key of all memory that was given no other.
    :raises memprot.ProtectionError: EINVAL for a key outside 0 to 15, ENOSYS where this CPU and kernel have no
        protection keys.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    The CPU has a register for it: no system call is made, and whether the key is allocated is not looked at.

    Source: pkey_get(3), pkeys(7).

    >>> from memprot import ProtectionError, calls
    >>> try:
    ...     rights = calls.pkey_get(0)
    ... except ProtectionError:
    ...     rights = calls.KeyRights.UNRESTRICTED
    >>> rights
    <KeyRights.UNRESTRICTED: 0>
    """
    return KeyRights(_native.pkey_get(key))


def get_mdwe() -> DenyWriteExecute:
    """What the process has denied itself with :func:`set_mdwe`; 0 is nothing.

    :raises memprot.ProtectionError: EINVAL where the kernel does not know the option (before Linux 6.3).

    Source: PR_GET_MDWE(2const), kernel/sys.c.

    >>> from memprot import calls
    >>> calls.get_mdwe()
    <DenyWriteExecute: 0>
    """
    return DenyWriteExecute(_native.get_mdwe())


def personality(persona: int = 0xFFFFFFFF) -> Personality:
    """Set whose habits the kernel shows the calling thread; what was set before.

    :param persona: :class:`memprot.flags.Personality` flags, perhaps with an :class:`memprot.flags.ExecutionDomain`;
        the default, 0xffffffff, only asks. The kernel looks at the lower 32 bits.
    :raises memprot.ProtectionError: with the kernel's errno; older kernels answer EINVAL for some values.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Threads and programs that it starts inherit it.

    Source: personality(2), kernel/exec_domain.c.

    >>> from memprot import calls
    >>> before = calls.personality()
    >>> calls.personality(before) == before
    True
    """
    return Personality(_native.personality(persona))
