"""The manual of the C extension: what ``help()`` shows of it is written here, once."""

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NoReturn, ParamSpec, SupportsIndex, TypeVar, final, overload

from typing_extensions import Buffer

from memprot.faults.error import FaultError
from memprot.faults.policy import Policy
from memprot.prot import Prot
from memprot.space.mapping import MappingKind

_P = ParamSpec("_P")
_R = TypeVar("_R")

# The system calls (_native/calls/)

def mprotect(addr: int, length: int, prot: int) -> None:
    """Change the protection of the pages that hold ``[addr, addr + length)``.

    :param addr: the first byte; must be a multiple of the page size.
    :param length: in bytes; the kernel rounds it up to whole pages.
    :param prot: a :class:`memprot.Prot`, or the number it stands for.
    :raises memprot.ProtectionError: with the kernel's errno. The call is not atomic: pages before the one
        that failed may have been changed already.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned. Everything that fits
        reaches the kernel whole.

    In a signal handler use ``memprot_mprotect`` of the C core. Other threads run meanwhile when ``length`` is
    more than 1 MiB.

    Source: mprotect(2), mm/mprotect.c.

    >>> from memprot import PAGE_SIZE, Prot, calls
    >>> from memprot.flags import MapFlag
    >>> page = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
    >>> calls.mprotect(page, PAGE_SIZE, Prot.READ)
    >>> calls.munmap(page, PAGE_SIZE)
    """

def mmap(addr: int, length: int, prot: int, flags: int, fd: int = -1, offset: int = 0) -> int:
    """Map a file or fresh memory; the address of the mapping.

    :param addr: where; 0 leaves it to the kernel. Without ``MapFlag.FIXED`` it is a wish.
    :param length: in bytes; the kernel rounds it up to whole pages.
    :param prot: a :class:`memprot.Prot`, or the number it stands for.
    :param flags: :class:`memprot.flags.MapFlag`; one of ``SHARED``, ``PRIVATE`` and ``SHARED_VALIDATE`` is
        needed.
    :param fd: the file; -1 with ``MapFlag.ANONYMOUS``.
    :param offset: where in the file, in bytes; a multiple of the page size.
    :raises memprot.ProtectionError: with the kernel's errno.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Nothing unmaps it for you: see :func:`munmap`. ``MapFlag.FIXED`` replaces whatever is there. Other threads
    run meanwhile when a file is mapped, pages are populated or locked, or ``length`` is more than 1 MiB.

    Source: mmap(2), mm/mmap.c.

    >>> from memprot import PAGE_SIZE, Prot, calls
    >>> from memprot.flags import MapFlag
    >>> address = calls.mmap(0, PAGE_SIZE, Prot.NONE, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
    >>> address % PAGE_SIZE
    0
    >>> calls.munmap(address, PAGE_SIZE)
    """

def munmap(addr: int, length: int) -> None:
    """Unmap the pages that hold ``[addr, addr + length)``; what is not mapped there is no error.

    :param addr: the first byte; must be a multiple of the page size.
    :param length: in bytes; the kernel rounds it up to whole pages.
    :raises memprot.ProtectionError: with the kernel's errno; ENOMEM when a mapping had to be split and the
        process may have no more of them (vm.max_map_count).
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Other threads run meanwhile when ``length`` is more than 1 MiB.

    Source: munmap(2), mm/vma.c.

    >>> from memprot import PAGE_SIZE, Prot, calls
    >>> from memprot.flags import MapFlag
    >>> address = calls.mmap(0, PAGE_SIZE, Prot.READ, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
    >>> calls.munmap(address, PAGE_SIZE)
    >>> calls.munmap(address, PAGE_SIZE)
    """

def madvise(addr: int, length: int, advice: int) -> None:
    """Tell the kernel how the pages that hold ``[addr, addr + length)`` will be used, or what to do.

    :param addr: the first byte; must be a multiple of the page size.
    :param length: in bytes; the kernel rounds it up to whole pages.
    :param advice: one of :class:`memprot.flags.Advice`. Some of it destroys data: ``DONTNEED``, ``FREE``,
        ``REMOVE`` and, on anonymous memory, ``GUARD_INSTALL``.
    :raises memprot.ProtectionError: with the kernel's errno; EINVAL also for advice that this kernel does not
        have.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Other threads run meanwhile when the advice makes the kernel read, write or move pages, or ``length`` is
    more than 1 MiB.

    Source: madvise(2), mm/madvise.c.

    >>> from memprot import PAGE_SIZE, Prot, calls
    >>> from memprot.flags import Advice, MapFlag
    >>> address = calls.mmap(0, PAGE_SIZE, Prot.READ, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
    >>> calls.madvise(address, PAGE_SIZE, Advice.DONTDUMP)
    >>> calls.munmap(address, PAGE_SIZE)
    """

def memfd_create(name: str | bytes, flags: int = 1) -> int:
    """Make a file that lives in memory and has no name in any directory; its descriptor.

    :param name: shown as ``/memfd:name`` in /proc/PID/maps; at most 249 bytes; several files may have the
        same.
    :param flags: :class:`memprot.flags.MemfdFlag`; the default, 1, is ``MemfdFlag.CLOEXEC``.
    :raises memprot.ProtectionError: with the kernel's errno.
    :raises TypeError: for a name that is neither str nor bytes, or flags that are no int.
    :raises ValueError: for a name with a zero byte.
    :raises OverflowError: for flags that do not fit in 64 bits, signed or unsigned.

    Source: memfd_create(2), mm/memfd.c.

    >>> import os
    >>> from memprot import calls
    >>> fd = calls.memfd_create("scratch")
    >>> os.ftruncate(fd, 4096)
    >>> os.close(fd)
    """

def pkey_mprotect(addr: int, length: int, prot: int, pkey: int) -> None:
    """Change the protection of pages, and the protection key that they belong to.

    :param addr: the first byte; must be a multiple of the page size.
    :param length: in bytes; the kernel rounds it up to whole pages.
    :param prot: a :class:`memprot.Prot`, or the number it stands for.
    :param pkey: from :func:`pkey_alloc`; 0 is the key of all other memory, -1 leaves the key as mprotect does.
        The kernel looks at the lower 32 bits.
    :raises memprot.ProtectionError: with the kernel's errno; EINVAL for a key that is not allocated. Not atomic,
        as :func:`mprotect` is not.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Other threads run meanwhile when ``length`` is more than 1 MiB.

    Source: pkey_mprotect(2), mm/mprotect.c.

    >>> from memprot import PAGE_SIZE, Prot, calls
    >>> flags = calls.MapFlag.PRIVATE | calls.MapFlag.ANONYMOUS
    >>> address = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, flags)
    >>> calls.pkey_mprotect(address, PAGE_SIZE, Prot.READ, -1)
    >>> calls.munmap(address, PAGE_SIZE)
    """

def mseal(addr: int, length: int, flags: int = 0) -> None:
    """Seal the mappings of a range: until the process ends nothing unmaps, moves or re-protects them.

    :param addr: the first byte; must be a multiple of the page size.
    :param length: in bytes; the kernel rounds it up to whole pages.
    :param flags: none exist yet.
    :raises memprot.ProtectionError: with the kernel's errno; ENOMEM when part of the range is not mapped, and
        then nothing is sealed; ENOSYS before Linux 6.10.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    There is no way back: the memory stays until the process ends. Other threads run meanwhile when ``length`` is more
    than 1 MiB.

    Source: mseal(2), mm/mseal.c.

    >>> from memprot import ProtectionError, calls
    >>> try:
    ...     calls.mseal(1, 4096)
    ... except ProtectionError as error:
    ...     print(error.call)
    mseal
    """

def mremap(addr: int, old: int, new: int, flags: int = 0, new_addr: int | None = None) -> int:
    """Grow, shrink or move a mapping; its new address.

    :param addr: its first byte; must be a multiple of the page size.
    :param old: how much of it, in bytes; 0 makes a second mapping of a shared one.
    :param new: how much it shall be, in bytes.
    :param flags: :class:`memprot.flags.RemapFlag`; without ``MAYMOVE`` it stays where it is.
    :param new_addr: where to, with ``FIXED``, or a wish with ``DONTUNMAP``; None otherwise.
    :raises memprot.ProtectionError: with the kernel's errno; ENOMEM when it cannot grow where it is and may not
        move; EFAULT when the range is not mapped. Where it fails with ``FIXED``, what was mapped at the new place may
        be gone already.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Other threads run meanwhile when ``old`` or ``new`` is more than 1 MiB.

    Source: mremap(2), mm/mremap.c.

    >>> from memprot import PAGE_SIZE, Prot, calls
    >>> flags = calls.MapFlag.PRIVATE | calls.MapFlag.ANONYMOUS
    >>> address = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, flags)
    >>> address = calls.mremap(address, PAGE_SIZE, 2 * PAGE_SIZE, calls.RemapFlag.MAYMOVE)
    >>> calls.munmap(address, 2 * PAGE_SIZE)
    """

def mlock(addr: int, length: int) -> None:
    """Keep pages in memory: they are read in now and are never swapped out.

    :param addr: the first byte; the kernel rounds it down to its page.
    :param length: in bytes; the pages that hold any of the range are meant.
    :raises memprot.ProtectionError: with the kernel's errno; ENOMEM for more than RLIMIT_MEMLOCK allows, or where
        part of the range is not mapped: the pages before it are locked then.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Other threads run meanwhile. A child made by fork(2) has no locked pages.

    Source: mlock(2), mm/mlock.c.

    >>> from memprot import PAGE_SIZE, Prot, calls
    >>> flags = calls.MapFlag.PRIVATE | calls.MapFlag.ANONYMOUS
    >>> address = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, flags)
    >>> calls.mlock(address, PAGE_SIZE)
    >>> calls.munmap(address, PAGE_SIZE)
    """

def mlock2(addr: int, length: int, flags: int) -> None:
    """As :func:`mlock`, with flags.

    :param addr: the first byte; the kernel rounds it down to its page.
    :param length: in bytes; the pages that hold any of the range are meant.
    :param flags: :class:`memprot.flags.LockFlag`. The kernel looks at the lower 32 bits.
    :raises memprot.ProtectionError: with the kernel's errno, as mlock; EINVAL for unknown flags.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Other threads run meanwhile.

    Source: mlock2(2), mm/mlock.c.

    >>> from memprot import PAGE_SIZE, Prot, calls
    >>> flags = calls.MapFlag.PRIVATE | calls.MapFlag.ANONYMOUS
    >>> address = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, flags)
    >>> calls.mlock2(address, PAGE_SIZE, calls.LockFlag.ONFAULT)
    >>> calls.munmap(address, PAGE_SIZE)
    """

def munlock(addr: int, length: int) -> None:
    """Let pages be swapped out again, however often they were locked.

    :param addr: the first byte; the kernel rounds it down to its page.
    :param length: in bytes; the pages that hold any of the range are meant.
    :raises memprot.ProtectionError: with the kernel's errno; ENOMEM where part of the range is not mapped: the pages
        before it are unlocked then.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Other threads run meanwhile when ``length`` is more than 1 MiB.

    Source: munlock(2), mm/mlock.c.

    >>> from memprot import PAGE_SIZE, Prot, calls
    >>> flags = calls.MapFlag.PRIVATE | calls.MapFlag.ANONYMOUS
    >>> address = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, flags)
    >>> calls.mlock(address, PAGE_SIZE)
    >>> calls.munlock(address, PAGE_SIZE)
    >>> calls.munmap(address, PAGE_SIZE)
    """

def mlockall(flags: int) -> None:
    """Keep all the process's memory in memory.

    :param flags: :class:`memprot.flags.LockAllFlag`. The kernel looks at the lower 32 bits.
    :raises memprot.ProtectionError: with the kernel's errno; ENOMEM for more than RLIMIT_MEMLOCK allows, EINVAL for
        unknown flags or for ONFAULT alone.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Other threads run meanwhile.

    Source: mlockall(2), mm/mlock.c.

    >>> from memprot import calls
    >>> calls.mlockall(calls.LockAllFlag.FUTURE | calls.LockAllFlag.ONFAULT)
    >>> calls.munlockall()
    """

def munlockall() -> None:
    """Let all the process's memory be swapped out again, and no longer lock what is mapped in future.

    :raises memprot.ProtectionError: with the kernel's errno; EINTR for a signal that ends the process.

    Other threads run meanwhile.

    Source: munlockall(2), mm/mlock.c.

    >>> from memprot import calls
    >>> calls.munlockall()
    """

def pkey_alloc(flags: int = 0, rights: int = 0) -> int:
    """Allocate a protection key; the key.

    :param flags: none exist yet.
    :param rights: :class:`memprot.flags.KeyRights`: what the calling thread shall not be able to do with its pages.
    :raises memprot.ProtectionError: with the kernel's errno; ENOSPC when all keys are in use. Where the CPU has no keys
        that is ENOSPC too, but EINVAL for the first such call of a process on x86-64.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Source: pkey_alloc(2), mm/mprotect.c.

    >>> from memprot import ProtectionError, calls
    >>> try:
    ...     key = calls.pkey_alloc(0, calls.KeyRights.DISABLE_WRITE)
    ...     calls.pkey_free(key)
    ... except ProtectionError as error:
    ...     key = None
    """

def pkey_free(key: int) -> None:
    """Give a protection key back. Pages that have it keep it, and the rights to it stay as they are.

    :param key: from :func:`pkey_alloc`. The kernel looks at the lower 32 bits.
    :raises memprot.ProtectionError: with the kernel's errno; EINVAL for a key that is not allocated.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Source: pkey_free(2), mm/mprotect.c.

    >>> from memprot import ProtectionError, calls
    >>> try:
    ...     calls.pkey_free(15)
    ... except ProtectionError as error:
    ...     print(error.call)
    pkey_free
    """

def pkey_get(key: int) -> int:
    """The number of what :func:`memprot.calls.pkey_get` tells.

    >>> from memprot import ProtectionError, _native
    >>> try:
    ...     _native.pkey_get(16)
    ... except ProtectionError as error:
    ...     print(error.strerror)
    Invalid argument
    """

def pkey_set(key: int, rights: int) -> None:
    """Say what the calling thread may not do with the pages of a protection key; other threads are not affected.

    :param key: from :func:`pkey_alloc`.
    :param rights: :class:`memprot.flags.KeyRights`.
    :raises memprot.ProtectionError: EINVAL for a key outside 0 to 15 or unknown rights, ENOSYS where this CPU and
        kernel have no protection keys.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    The CPU has a register for it: no system call is made, and whether the key is allocated is not looked at. With key
    0, DISABLE_ACCESS ends the program at its next instruction that reads memory.

    Source: pkey_set(3), pkeys(7).

    >>> from memprot import ProtectionError, calls
    >>> try:
    ...     calls.pkey_set(16, calls.KeyRights.DISABLE_WRITE)
    ... except ProtectionError as error:
    ...     print(error.strerror)
    Invalid argument
    """

def shm_open(name: str | bytes, flags: int, mode: int = 0o600) -> int:
    """Open POSIX shared memory, or make it; its descriptor, which execve(2) closes.

    :param name: "/name": one slash, then at most 255 bytes without any.
    :param flags: those of :mod:`os`: ``O_RDONLY`` or ``O_RDWR``, perhaps with ``O_CREAT``, ``O_EXCL``, ``O_TRUNC``. The
        kernel looks at the lower 32 bits.
    :param mode: the permissions of what is made, less the umask.
    :raises memprot.ProtectionError: as shm_open(3): EINVAL for a name that cannot be, ENOENT for one that is not there,
        EEXIST with ``O_CREAT | O_EXCL`` for one that is, EACCES without permission.
    :raises TypeError: for a name that is neither str nor bytes, or flags or mode that are no int.
    :raises ValueError: for a name with a zero byte.
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    It has no bytes until os.ftruncate() gives it some, and stays until :func:`shm_unlink`. Other threads run meanwhile.

    Source: shm_open(3), shm_overview(7).

    >>> import os
    >>> from memprot import calls
    >>> name = f"/memprot-example-{os.getpid()}"
    >>> fd = calls.shm_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    >>> calls.shm_unlink(name)
    >>> os.close(fd)
    """

def shm_unlink(name: str | bytes) -> None:
    """Take the name of POSIX shared memory away; its memory goes when nobody has it open or mapped.

    :param name: as :func:`shm_open` takes it.
    :raises memprot.ProtectionError: as shm_unlink(3): ENOENT for a name that is not there or cannot be, EACCES without
        permission.
    :raises TypeError: for a name that is neither str nor bytes.
    :raises ValueError: for a name with a zero byte.

    Source: shm_unlink(3), shm_overview(7).

    >>> from memprot import ProtectionError, calls
    >>> try:
    ...     calls.shm_unlink("/memprot-never-made")
    ... except ProtectionError as error:
    ...     print(error.strerror)
    No such file or directory
    """

def brk(addr: int = 0) -> int:
    """Move the program break, the end of the heap; where it is then.

    :param addr: where to, to the byte; 0 only asks.
    :raises memprot.ProtectionError: ENOMEM when the kernel leaves the break elsewhere: below the heap's start, above
        RLIMIT_DATA, or where something is mapped.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    The kernel reports no error; this compares what it answers with what was asked. The C library is told, because
    its malloc uses the break too: memory that you add stays yours, but whatever malloc has put above ``addr`` is gone
    when you lower it, and the program most likely with it. Where other threads run C code, they may move it meanwhile.

    Source: brk(2), mm/mmap.c.

    >>> from memprot import PAGE_SIZE, calls
    >>> before = calls.brk()
    >>> calls.brk(before + PAGE_SIZE) - before == PAGE_SIZE
    True
    >>> calls.brk(before) == before
    True
    """

def sbrk(n: int) -> int:
    """Move the program break by a number of bytes; where it was before: the start of the new memory.

    :param n: how far, in bytes; negative lowers it.
    :raises memprot.ProtectionError: ENOMEM as for :func:`brk`, and where the break would leave 64 bits.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    As for :func:`brk`, the C library is told, and what malloc has above the new break is gone.

    Source: sbrk(2), mm/mmap.c.

    >>> from memprot import calls
    >>> calls.sbrk(4096) + 4096 == calls.sbrk(-4096)
    True
    """

def set_mdwe(bits: int) -> None:
    """Deny the process memory that becomes executable, for good.

    :param bits: :class:`memprot.flags.DenyWriteExecute`.
    :raises memprot.ProtectionError: with the kernel's errno; EINVAL for unknown bits or a kernel without the option
        (before Linux 6.3), EPERM where a bit would be taken back.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Threads that run already are covered as well, and so are programs started with execve(2).

    Source: PR_SET_MDWE(2const), kernel/sys.c.

    >>> from memprot import ProtectionError, calls
    >>> try:
    ...     calls.set_mdwe(1 << 40)
    ... except ProtectionError as error:
    ...     print(error.strerror)
    Invalid argument
    """

def get_mdwe() -> int:
    """The number of what :func:`memprot.calls.get_mdwe` tells.

    >>> from memprot import _native
    >>> _native.get_mdwe()
    0
    """

def process_madvise(pidfd: int, ranges: Iterable[tuple[int, int]], advice: int, flags: int = 0) -> int:
    """Advise the kernel about memory of another process, or of this one; how many bytes were advised.

    :param pidfd: the process, from os.pidfd_open().
    :param ranges: pairs ``(start, stop)`` of addresses; at most 1024, and every start a multiple of the page size.
    :param advice: one of :class:`memprot.flags.Advice`; for another process ``COLD``, ``PAGEOUT``, ``WILLNEED`` and
        ``COLLAPSE``. The kernel looks at the lower 32 bits of it and of ``flags``.
    :param flags: none exist yet.
    :raises memprot.ProtectionError: with the kernel's errno, when not even the first range was advised; EPERM where the
        process may not be traced, ESRCH when it is gone, EBADF for what is no pidfd.
    :raises TypeError: for an argument of another type; the message says which, also inside the ranges.
    :raises ValueError: for a range that stops before its start.
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Fewer bytes than the ranges hold mean that the call stopped at a range. Other threads run meanwhile.

    Source: process_madvise(2), mm/madvise.c.

    >>> import os
    >>> from memprot import PAGE_SIZE, Prot, calls
    >>> flags = calls.MapFlag.PRIVATE | calls.MapFlag.ANONYMOUS
    >>> address = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, flags)
    >>> fd = os.pidfd_open(os.getpid())
    >>> calls.process_madvise(fd, [(address, address + PAGE_SIZE)], calls.Advice.COLD) == PAGE_SIZE
    True
    >>> os.close(fd)
    >>> calls.munmap(address, PAGE_SIZE)
    """

def mincore(addr: int, length: int) -> bytes:
    """Which pages of a range are in memory: one byte for each, its lowest bit set for those that are.

    :param addr: the first byte; must be a multiple of the page size.
    :param length: in bytes; the kernel rounds it up to whole pages.
    :raises memprot.ProtectionError: with the kernel's errno; ENOMEM where part of the range is not mapped.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    It is a moment's answer. Of a file that the process may not write, every page counts as in memory. Other threads
    run meanwhile when ``length`` is more than 1 MiB.

    Source: mincore(2), mm/mincore.c.

    >>> from memprot import PAGE_SIZE, Prot, calls
    >>> flags = calls.MapFlag.PRIVATE | calls.MapFlag.ANONYMOUS
    >>> address = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, flags)
    >>> calls.mincore(address, PAGE_SIZE)
    b'\\x00'
    >>> calls.munmap(address, PAGE_SIZE)
    """

def msync(addr: int, length: int, flags: int) -> None:
    """Write what was changed in a shared mapping of a file to the file.

    :param addr: the first byte; must be a multiple of the page size.
    :param length: in bytes; the kernel rounds it up to whole pages.
    :param flags: :class:`memprot.flags.SyncFlag`. The kernel looks at the lower 32 bits.
    :raises memprot.ProtectionError: with the kernel's errno; ENOMEM where part of the range is not mapped: the rest is
        written all the same.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Other threads run meanwhile.

    Source: msync(2), mm/msync.c.

    >>> from memprot import PAGE_SIZE, Prot, calls
    >>> flags = calls.MapFlag.PRIVATE | calls.MapFlag.ANONYMOUS
    >>> address = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, flags)
    >>> calls.msync(address, PAGE_SIZE, calls.SyncFlag.SYNC)
    >>> calls.munmap(address, PAGE_SIZE)
    """

def memfd_secret(flags: int = 0) -> int:
    """Make a file whose pages not even the kernel can read through its own map; its descriptor.

    :param flags: :class:`memprot.flags.SecretFlag`. The kernel looks at the lower 32 bits.
    :raises memprot.ProtectionError: with the kernel's errno; ENOSYS where the kernel was started without it
        (secretmem.enable), EINVAL for unknown flags.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    It can be mapped shared only, and its pages count as locked.

    Source: memfd_secret(2), mm/secretmem.c.

    >>> import os
    >>> from memprot import ProtectionError, calls
    >>> try:
    ...     os.close(calls.memfd_secret(calls.SecretFlag.CLOEXEC))
    ... except ProtectionError as error:
    ...     fd = None
    """

def mbind(addr: int, length: int, mode: int, nodes: Iterable[int], flags: int = 0) -> None:
    """Say on which nodes the pages of a range shall be.

    :param addr: the first byte; must be a multiple of the page size.
    :param length: in bytes; the kernel rounds it up to whole pages.
    :param mode: one of :class:`memprot.flags.NumaMode`, perhaps with a :class:`memprot.flags.NumaModeFlag`.
    :param nodes: their numbers; empty for the modes that take none.
    :param flags: :class:`memprot.flags.NumaFlag`: what to do about pages that are elsewhere already.
    :raises memprot.ProtectionError: with the kernel's errno; EINVAL for nodes that are not there, EIO where pages are
        elsewhere and could not be moved, EFAULT where part of the range is not mapped.
    :raises TypeError: for an argument of another type; the message says which, also inside the nodes.
    :raises ValueError: for a node below 0 or above 32767, more than the kernel's interface can carry.
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Other threads run meanwhile.

    Source: mbind(2), mm/mempolicy.c.

    >>> from memprot import PAGE_SIZE, Prot, calls
    >>> flags = calls.MapFlag.PRIVATE | calls.MapFlag.ANONYMOUS
    >>> address = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, flags)
    >>> calls.mbind(address, PAGE_SIZE, calls.NumaMode.DEFAULT, ())
    >>> calls.munmap(address, PAGE_SIZE)
    """

def set_mempolicy(mode: int, nodes: Iterable[int] = ()) -> None:
    """Say on which nodes the calling thread's new pages shall be.

    :param mode: one of :class:`memprot.flags.NumaMode`, perhaps with a :class:`memprot.flags.NumaModeFlag`. The
        kernel looks at the lower 32 bits.
    :param nodes: their numbers; empty for the modes that take none.
    :raises memprot.ProtectionError: with the kernel's errno; EINVAL for nodes that are not there.
    :raises TypeError: for an argument of another type; the message says which, also inside the nodes.
    :raises ValueError: for a node below 0 or above 32767, more than the kernel's interface can carry.
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Source: set_mempolicy(2), mm/mempolicy.c.

    >>> from memprot import calls
    >>> calls.set_mempolicy(calls.NumaMode.DEFAULT)
    """

def get_mempolicy(addr: int | None = None) -> tuple[int, tuple[int, ...]]:
    """The policy of the calling thread, or of the mapping at an address: its mode and its nodes.

    :param addr: an address; None asks for the thread's policy.
    :raises memprot.ProtectionError: with the kernel's errno; EFAULT where nothing is mapped at the address.
    :raises TypeError: for an argument that is no int (bool and float are none).
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    The mode is a number of :class:`memprot.flags.NumaMode`, with the bits of :class:`memprot.flags.NumaModeFlag` that
    it was set with.

    Source: get_mempolicy(2), mm/mempolicy.c.

    >>> from memprot import calls
    >>> calls.set_mempolicy(calls.NumaMode.LOCAL)
    >>> mode, nodes = calls.get_mempolicy()
    >>> calls.NumaMode(mode)
    <NumaMode.LOCAL: 4>
    >>> calls.set_mempolicy(calls.NumaMode.DEFAULT)
    """

def move_pages(pid: int, pages: Iterable[int], nodes: Iterable[int] | None = None, flags: int = 0) -> list[int]:
    """Move pages of a process to nodes, or ask where they are; for each page its node, or an errno below zero.

    :param pid: the process; 0 is this one. The kernel looks at the lower 32 bits of it and of ``flags``.
    :param pages: addresses.
    :param nodes: for each page where to; None only asks.
    :param flags: :class:`memprot.flags.NumaFlag`: ``MOVE``, or ``MOVE_ALL`` for pages that others share.
    :raises memprot.ProtectionError: with the kernel's errno; ESRCH for a process that is not there, EPERM for one that
        may not be traced, ENODEV for a node that is not there.
    :raises TypeError: for an argument of another type; the message says which, also inside pages and nodes.
    :raises ValueError: for more or fewer nodes than pages, or a node below 0 or above 32767.
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    A page that the kernel did not come to has ``-errno.EAGAIN``. Other threads run meanwhile.

    Source: move_pages(2), mm/migrate.c.

    >>> import errno
    >>> from memprot import calls
    >>> calls.move_pages(0, [0]) == [-errno.EFAULT]
    True
    """

def set_name(addr: int, length: int, name: str | bytes | None) -> None:
    """Name anonymous memory: /proc/PID/maps shows ``[anon:name]``.

    :param addr: the first byte; must be a multiple of the page size.
    :param length: in bytes; the kernel rounds it up to whole pages.
    :param name: at most 79 printable characters without ``[ ] \\ $`` and the backquote; None takes the name away.
    :raises memprot.ProtectionError: with the kernel's errno; EINVAL also from a kernel built without names, EBADF for
        the mapping of a file.
    :raises TypeError: for an argument of another type.
    :raises ValueError: for a name with a zero byte.
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned.

    Source: PR_SET_VMA(2const), mm/madvise.c.

    >>> from memprot import ProtectionError, calls
    >>> try:
    ...     calls.set_name(1, 4096, "odd")
    ... except ProtectionError as error:
    ...     print(error.strerror)
    Invalid argument
    """

def personality(persona: int = 0xFFFFFFFF) -> int:
    """The number of what :func:`memprot.calls.personality` does.

    >>> from memprot import _native
    >>> _native.personality() == _native.personality(0xFFFFFFFF)
    True
    """

def set_error_factory(factory: Callable[[int, str, tuple[object, ...]], BaseException] | None, /) -> None:
    """Say how a failed call becomes an exception; until then, and after None, it is a plain OSError.

    :param factory: called with the errno, the name of the call and its arguments, defaults filled in; returns
        the exception to raise. When it fails for want of memory, the plain OSError is raised instead.
    :raises TypeError: for what cannot be called.

    :mod:`memprot.diagnosis.factory` registers what makes a :class:`memprot.ProtectionError`.

    >>> from memprot import _native
    >>> from memprot.diagnosis.factory import diagnosed
    >>> _native.set_error_factory(diagnosed)
    """

# Mappings (_native/mapping.c)

@final
class Mapping:
    """One mapping of an address space: what a line of /proc/PID/maps says.

    Mappings are values: equal when everything about them is equal, ordered by address, hashable, picklable.
    ``len(m)`` is its size in bytes, ``address in m`` asks whether it holds an address.

    :param start: its first address.
    :param stop: the address after its last.
    :param prot: ``Prot``, ``"r-x"`` or int.
    :param kind: found out from the other arguments when left out.
    :raises TypeError: for an argument of the wrong type (bool and float are no int).
    :raises ValueError: for numbers that no mapping has, or a protection with more than read, write and
        execute.
    :raises OverflowError: for an int that does not fit in 64 bits.

    Source: proc_pid_maps(5), fs/proc/task_mmu.c.

    >>> from memprot import Mapping
    >>> mapping = Mapping(0x10000, 0x12000, "r-x", path="/usr/bin/true")
    >>> mapping
    <Mapping 0x10000-0x12000 r-xp file '/usr/bin/true'>
    >>> len(mapping), 0x11fff in mapping
    (8192, True)
    """

    def __new__(
        cls,
        start: int,
        stop: int,
        prot: Prot | str | int,
        shared: bool = False,
        offset: int = 0,
        device: tuple[int, int] = (0, 0),
        inode: int = 0,
        path: str | None = None,
        deleted: bool = False,
        kind: MappingKind | str | None = None,
    ) -> Mapping: ...
    @property
    def start(self) -> int:
        """The first address."""

    @property
    def stop(self) -> int:
        """The address after the last one."""

    @property
    def size(self) -> int:
        """The length in bytes."""

    @property
    def prot(self) -> Prot:
        """What may be done with the memory: read, write, execute."""

    @property
    def shared(self) -> bool:
        """Whether writes are seen by others who map the same file; otherwise they are private copies."""

    @property
    def offset(self) -> int:
        """Where in the file the mapping starts, in bytes; 0 without a file."""

    @property
    def device(self) -> tuple[int, int]:
        """The (major, minor) number of the device that holds the file; (0, 0) without a file."""

    @property
    def inode(self) -> int:
        """The number of the file on its device; 0 without a file."""

    @property
    def path(self) -> str | None:
        """The name of the file, or the kernel's name for the memory (``[heap]``); None: neither.

        A newline in a name is a newline here, bytes that are not UTF-8 are surrogates (as from
        ``os.fsdecode``), and the ``" (deleted)"`` that the kernel adds is in :attr:`deleted` instead.
        """

    @property
    def deleted(self) -> bool:
        """Whether the file has no name any more, or never had one (memfd, shared anonymous memory).

        The kernel says so in the name itself. A file whose own name ends in ``" (deleted)"`` is told apart by
        looking whether it exists; in an address space with another root directory that may not be possible.
        """

    @property
    def kind(self) -> MappingKind:
        """What the memory is for."""

    def __len__(self) -> int: ...
    def __contains__(self, address: int, /) -> bool: ...
    def __lt__(self, other: Mapping, /) -> bool: ...
    def __le__(self, other: Mapping, /) -> bool: ...
    def __gt__(self, other: Mapping, /) -> bool: ...
    def __ge__(self, other: Mapping, /) -> bool: ...
    def __hash__(self) -> int: ...

def set_mapping_types(as_prot: Callable[[Prot | str | int], Prot], kind: Callable[[str], MappingKind], /) -> None:
    """Say which objects stand for protections and kinds in :class:`Mapping`.

    :param as_prot: turns what a caller may write for a protection into the object that stands for it.
    :param kind: does the same for the name of a kind, such as ``"shared_memory"``.

    :mod:`memprot.space.mapping` calls it.

    >>> from memprot import _native
    >>> from memprot.prot import as_prot
    >>> from memprot.space.mapping import MappingKind
    >>> _native.set_mapping_types(as_prot, MappingKind)
    """

# /proc/PID/maps (_native/maps.c)

@final
class MapsFile:
    """The /proc/PID/maps of one process, kept open for questions about single addresses.

    Our own is read with no descriptor left too, by a process made for it that shares the memory. A descriptor that
    somebody else closed is noticed and not used again.

    :param pid: the process; None for the one that asks, which after a fork is the child.
    :raises OSError: with the errno of open(2).
    :raises TypeError: for a pid that is no int.
    :raises OverflowError: for a pid that does not fit in 64 bits.

    >>> from memprot._native import MapsFile
    >>> MapsFile().find(0)
    """

    def __new__(cls, pid: int | None = None) -> MapsFile: ...
    def read(self) -> list[Mapping]:
        """Every mapping, from a fresh reading; ordered, without overlaps.

        :raises OSError: with the errno of open(2) or read(2); ESRCH when the process has no address space
            (any more).
        """

    def find(self, address: int, /) -> Mapping | None:
        """The mapping that holds an address, by PROCMAP_QUERY where the kernel has it, otherwise by the text.

        :raises OSError: as for :meth:`read`.
        :raises TypeError: for an address that is no int.
        :raises OverflowError: for an address that does not fit in 64 bits.
        """

    def find_next(self, address: int, /) -> Mapping | None:
        """The mapping that holds an address, otherwise the first one above it; never ``[vsyscall]``.

        :raises OSError: as for :meth:`read`.
        :raises TypeError: for an address that is no int.
        :raises OverflowError: for an address that does not fit in 64 bits.
        """

    def count(self) -> int:
        """How many mappings count against vm.max_map_count: all but ``[vsyscall]``.

        :raises OSError: as for :meth:`read`.
        """

    def flags(self, address: int, /) -> tuple[str, int] | None:
        """The kernel's flags of the mapping that holds an address, as ``"rd wr mr mw me ac"``, and the bytes of its
        pages; None: nothing is mapped there.

        The kernel walks the pages of every mapping up to that one.

        :raises OSError: as for :meth:`read`.
        :raises TypeError: for an address that is no int.
        :raises OverflowError: for an address that does not fit in 64 bits.

        Source: VmFlags and KernelPageSize in proc_pid_smaps(5).
        """

def read_small_file(path: str, /) -> bytes:
    """The first 16 KiB of a file, also when the process has no descriptor left.

    :param path: of a file of /proc or /sys.
    :raises OSError: with the errno of open(2) or read(2).

    Source: libmemprot/own_file.h.

    >>> from memprot import _native
    >>> _native.read_small_file("/proc/self/comm").endswith(b"\\n")
    True
    """

def parse_maps(text: bytes, /) -> list[Mapping]:
    """The mappings of a /proc/PID/maps that was saved earlier.

    :param text: whole lines. Overlapping ones are clipped, those out of order left out.
    :raises ValueError: for a line of another form; says which one.

    >>> from memprot._native import parse_maps
    >>> parse_maps(b"10000-12000 r-xp 00000000 fe:00 7   /usr/bin/true" + bytes([10]))
    [<Mapping 0x10000-0x12000 r-xp file '/usr/bin/true'>]
    """

# Facts asked by calls that change nothing (_native/probe.c)

def seems_sealed(page: int, /) -> bool | None:
    """Whether the mapping that holds a page of ours is sealed (mseal); None where that cannot be told.

    :param page: the address of a page, a multiple of the page size.

    A seccomp filter that refuses mremap(2) looks like a seal: ask :meth:`MapsFile.flags` about a True.

    Source: mremap(2), mm/mremap.c.

    >>> from memprot import _native
    >>> _native.seems_sealed(1 << 55)
    """

def near_mapping_limit() -> bool:
    """Whether two more mappings might be more than vm.max_map_count allows; False is certain.

    Source: mremap(2), mm/mremap.c.

    >>> from memprot import _native
    >>> _native.near_mapping_limit() in (True, False)
    True
    """

def overcommit_mode() -> int:
    """vm.overcommit_memory, read from a file that stays open; -1 where it cannot be read so.

    Source: proc_sys_vm(5).

    >>> from memprot import _native
    >>> _native.overcommit_mode() in (-1, 0, 1, 2)
    True
    """

def stack_address() -> int:
    """An address in the calling thread's stack.

    >>> from memprot import AddressSpace, _native
    >>> AddressSpace().find(_native.stack_address()).prot & 3
    <Prot.READ|WRITE: 3>
    """

# Features (_native/features.c)

def try_features() -> tuple[tuple[str, bool, int, str | None, int, int], ...]:
    """Try each kernel and CPU feature once, in a child process made for it.

    Returns:
        One ``(name, available, errno, step, signal, value)`` for each feature: ``errno`` of the ``step``
        that failed (0 when it was accepted and yet changed nothing), the ``signal`` that killed the child
        during the trial (or 0), and the ``value`` the trial counted where a feature is a number.

    Raises:
        OSError: the page shared with the child could not be mapped.

    Source: libmemprot/feature.h.

    >>> from memprot import _native
    >>> name, available, *_ = _native.try_features()[0]
    >>> name, available
    ('mprotect', True)
    """

# The fault engine (_native/engine.c, delivery.c, scope.c)

def fault_acquire() -> None:
    """Keep the fault handlers installed, and on top of those installed since, until :func:`fault_release`.

    :raises OSError: the handlers cannot be installed.
    """

def fault_release() -> None:
    """One user of the handlers fewer; the last one takes them down."""

def fault_reinstall() -> None:
    """Move the handlers, where they are in use, back on top of those installed since.

    :raises OSError: the handlers cannot be installed.
    """

def fault_policy(policy: int, /) -> None:
    """What happens to a fault where nothing else says so: 0 die, 1 raise, 2 log, 3 abort, 4 discard, 5 ask.

    :raises ValueError: for another number.
    """

def set_suppressions(
    suppressions: list[tuple[int, int, tuple[tuple[str | None, str | None, str | None] | None, ...]]], /
) -> None:
    """Say which faults nobody is to hear of; those said before count no more.

    What is read in handlers is kept until the process ends, so this is no call for loops.

    :param suppressions: each with bits for kinds and accesses, as ``libmemprot/suppression.h`` numbers them, and frames
        from the innermost outwards: None for any number of frames, or patterns of the library, the function and
        Python's file, None for any.

    Example:

    >>> from memprot import _native
    >>> _native.set_suppressions([(1, 2, ((None, "convolve*", None), None, (None, None, "app.py")))])
    >>> _native.suppressed()
    [0]
    >>> _native.set_suppressions([])
    """

def suppressed() -> list[int]:
    """For each of :func:`set_suppressions`, how many faults nobody was told of because of it.

    >>> from memprot import _native
    >>> _native.set_suppressions([])
    >>> _native.suppressed()
    []
    """

def fault_die(signal: int, /) -> NoReturn:
    """Die of a signal, whoever handles it.

    :raises OSError: there is no such signal.
    """

def policy_number(policy: object, /) -> int:
    """The number of a policy's name, as :func:`fault_policy` takes it; that of ask for a callable.

    :raises ValueError: no policy has this name.
    :raises TypeError: neither a name nor a callable.
    """

def scope_policy(number: int, /) -> object:
    """The policy that the scope of a number was given; None when there is no such scope."""

def scope_remember(number: int, fault: FaultError, /) -> None:
    """Put a fault into the ``faults`` of the scope of a number, where there still is one."""

def fault_take() -> BaseException | None:
    """What the running code's thread and scopes have to raise, as one exception; None when there is nothing."""

def fault_claim_all() -> list[tuple[Any, ...] | BaseException]:
    """Every recorded fault, whoever it belongs to, as rows of :class:`memprot.faults.native_record.NativeRecord`.

    Where a policy asks for a decision, that is asked for, and an exception stands where it was to raise.
    """

def fault_claim_untold() -> list[tuple[Any, ...] | BaseException]:
    """The recorded faults that will be raised nowhere, like :func:`fault_claim_all`."""

def fault_waiting() -> int:
    """How many recorded faults nobody has taken over yet."""

def fault_withhold() -> None:
    """Keep a fault that is on its way to the calling thread until :func:`fault_resume`: the thread is about to fork."""

def fault_resume() -> None:
    """Send on its way what :func:`fault_withhold` has kept, in the process that calls it."""

def fault_count() -> int:
    """How many faults the process has recorded so far: the sum of ``faults`` over all records, claimed or not."""

def set_delivery(
    delivery: type[BaseException],
    error_factory: Callable[[list[tuple[Any, ...] | BaseException]], BaseException],
    decider: Callable[[tuple[Any, ...]], tuple[bool, BaseException | None]],
    /,
) -> None:
    """Register what faults become.

    :param delivery: the class set as a thread's pending exception; instantiating it takes over the thread's records.
    :param error_factory: makes one exception of a list of at least one record, or exception.
    :param decider: says of a record whose policy asks whether what was written stays, and what is raised.
    """

def give_to_unraisable_hook(error: BaseException, owner: object, /) -> None:
    """Have ``sys.unraisablehook`` called with an exception that nobody can raise, as for one that a finalizer raises.

    :param owner: its ``object``: whose exception it is.

    Source: the documentation of PyErr_WriteUnraisable. Example:

    >>> import sys
    >>> from memprot import _native
    >>> sys.unraisablehook = lambda unraisable: print(unraisable.object, unraisable.exc_value)
    >>> _native.give_to_unraisable_hook(ValueError("words"), "somewhere")
    somewhere words
    >>> sys.unraisablehook = sys.__unraisablehook__
    """

def unraisable_hook(unraisable: Any, /) -> None:
    """The ``sys.unraisablehook`` once a scope has raised: keeps a fault raised in a finalizer for the scope's end."""

def set_drain(drain: Callable[[], object], /) -> None:
    """Register what is called in the main thread when records wait that will be raised nowhere."""

def set_crash_reporter(argv: list[bytes], environment: list[bytes], stderr: int = 2, /) -> None:
    """Name the program that a dying process starts to report its end: what it knows comes as JSON on standard input.

    :param argv: of the program.
    :param environment: of the program.
    :param stderr: the descriptor that is its standard error.
    """

def use_alternate_stacks() -> None:
    """Give the calling thread, and every one that is started from now on, a stack for signal handlers.

    A stack overflow then can be reported. A thread that has such a stack keeps it, and nobody takes notice of one that
    cannot be given it. Threads that libraries loaded later start by themselves have none. The descriptor by which
    memprot asks for mappings is closed: for use while there is one thread.

    :raises OSError: there is no memory for that of the calling thread.

    Source: sigaltstack(2), pthread_create(3).
    """

@final
class catch_faults:  # noqa: N801
    """Recover faults on memory that memprot owns, and raise them, or do what another policy says.

    A fault is raised as :class:`memprot.FaultError` in the Python thread that caused it, as soon as its interpreter
    looks for pending exceptions, and at the latest when the scope ends. Faults of threads without Python are raised
    where the innermost scope ends. When the block raised something else too, that is the error's ``__context__``.

    Scopes nest: the innermost one's policy counts, unless a :class:`memprot.Region` has its own. A scope is its
    thread's, and in asyncio its task's; a thread without one falls under the newest open scope of the process.

    :param policy: ``"raise"``, ``"log"`` (the access happens), ``"discard"`` (what is written vanishes) or ``"abort"``
        (report and die); or a callable that is given the :class:`memprot.FaultError` afterwards and returns one of
        these, as :func:`memprot.faults.set_policy` tells.
    :raises ValueError: no such policy.

    >>> from memprot import FaultError, Region, catch_faults
    >>> region = Region(4096, "rw-")
    >>> view = memoryview(region)
    >>> region.protect("r--")
    >>> try:
    ...     with catch_faults() as scope:
    ...         view[0] = 1
    ... except FaultError as fault:
    ...     print(fault.access, fault.offset)
    write 0
    >>> len(scope.faults)
    1
    >>> with catch_faults(policy="log"):
    ...     view[0] = 2
    >>> region[0], str(region.prot)
    (2, 'r--')
    """

    def __init__(self, policy: Policy = "raise") -> None: ...
    @property
    def faults(self) -> tuple[FaultError, ...]:
        """What this scope has raised or recorded so far; each with those that came along in its ``others``."""

    @property
    def policy(self) -> Policy:
        """The policy it was given."""

    def check(self) -> None:
        """Raise what was recorded so far.

        :raises memprot.FaultError: there was something.
        """

    def __enter__(self) -> catch_faults: ...
    def __exit__(self, *exception: object) -> None: ...

# Regions (_native/region.c)

class Region:
    """A mapping whose accessors cannot kill the process: the native half of :class:`memprot.Region`."""

    def __init__(
        self, size: int, prot: int, shared: bool, name: str | None, huge: bool, side: int, fd: int, offset: int
    ) -> None: ...
    @property
    def size(self) -> int:
        """The size asked for, in bytes."""

    @property
    def shared(self) -> bool:
        """Whether a forked child sees, and shares, later changes."""

    @property
    def guarded(self) -> bool:
        """Whether guards stand before and behind it."""

    @property
    def address(self) -> int:
        """The address of byte 0.

        :raises ValueError: the region is closed.
        """

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` has given the memory back."""

    @property
    def extent(self) -> tuple[int, int]:
        """Start and stop of the pages that hold the bytes."""

    @property
    def protection(self) -> int | None:
        """The pages' protection as a number, None when they differ."""

    def set_policy(self, policy: int, /) -> None:
        """What happens to faults on it, as :func:`fault_policy` numbers it; 6 where it says nothing of its own.

        :raises ValueError: for another number, or the region is closed.
        """

    @property
    def stack(self) -> int:
        """Where it was made, for :func:`stack_frames`."""

    def close(self) -> None:
        """Unmap the memory. Closing twice is allowed.

        :raises BufferError: buffers of it are still in use.
        """

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """A copy of ``size`` bytes from ``offset`` on; all the rest by default.

        :raises ValueError: they do not lie within the region, or it is closed.
        :raises memprot.FaultError: the protection forbids it, or the file beneath has become shorter.
        """

    def write(self, offset: int, data: Buffer) -> int:
        """Copy ``data`` to ``offset``; the number of bytes.

        :raises ValueError: it does not fit, or the region is closed.
        :raises memprot.FaultError: the protection forbids it; bytes before the fault have been written.
        """

    def _split(self, first: int, rest: Region, /) -> None:
        """Give the pages from ``first`` on to ``rest``, a Region that was never mapped.

        :raises BufferError: buffers of it are in use.
        """

    def protect_pages(self, first: int, count: int, prot: int, /) -> None:
        """Change the protection of pages.

        :raises OSError: with mprotect's errno.
        """

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...
    @overload
    def __setitem__(self, key: SupportsIndex, value: int, /) -> None: ...
    @overload
    def __setitem__(self, key: slice, value: Buffer, /) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def region_at(address: int, /) -> Region | None:
    """The open region whose mapping, guards included, holds an address."""

def seal_region(start: int, stop: int, /) -> bool:
    """Remember that a Region's pages are sealed, so that closing it leaves them; whether they are a Region's."""

def set_region_fault(factory: Callable[[Region, int, int, int, int, int, bytes | None], BaseException], /) -> None:
    """Register what an accessor's fault becomes.

    :param factory: called with the region, the address, the access, the signal that told (0: none, the kernel did),
        the protection key that forbids it (-1: none), how many bytes were moved before, and those where they were read.
    """

# Errors of the kernel (_native/kernel_error.c)

def find_forbidden(start: int, stop: int, write: bool, /) -> int | None:
    """The first address in a range where memory that memprot answers for forbids reading, or writing."""

def set_kernel_fault(factory: Callable[[OSError, tuple[BaseException, ...]], BaseException | None], /) -> None:
    """Register who finds the fault behind an OSError of a bad address.

    :param factory: called with the error, and with the faults that its scope has raised already.
    """

# Any memory (_native/peek.c)

def peek(address: int, size: int, /) -> bytes:
    """The bytes from an address on, up to the first that may not be read: fewer than asked for, where there is one.

    :raises TypeError: an argument is no int.
    :raises ValueError: it is negative.
    :raises OverflowError: it does not fit in 64 bits.
    :raises MemoryError: there is no room for a copy.
    """

def poke(address: int, data: Buffer, /) -> tuple[int, bool]:
    """Write bytes to an address: how many, up to the first that may not be written or read.

    :return: the number, and whether it is the data that could not be read further.
    :raises TypeError: an argument of another type.
    :raises ValueError: the address is negative.
    :raises OverflowError: it does not fit in 64 bits.
    """

# Buffers (_native/buffer.c)

def buffer_range(target: object, /) -> tuple[int, int, bool]:
    """Address and size of the bytes of a buffer, and whether they are raw data.

    :raises TypeError: it has no buffer.
    """

# Protections (_native/protection.c)

@final
class Protection:
    """A change of protection on the pages of a buffer: as a ``with`` block, or kept until it is undone.

    The buffer is held from here to the end, so that its memory can be neither freed nor resized. ``__enter__`` and
    ``__exit__`` protect the pages and give each its previous protection back.

    :param target: an object with a buffer.
    :param prot: the protection as a number.
    :param given: what ``__enter__`` returns; the target by default.
    :raises TypeError: the target has no buffer.
    :raises ValueError: the target is closed or released, or its buffer a table of pointers.
    :raises OverflowError: the number does not fit in 64 bits.
    """

    def __new__(cls, target: object, prot: int, given: object = ..., /) -> Protection: ...
    @property
    def address(self) -> int:
        """The lowest address of the target's bytes."""

    @property
    def size(self) -> int:
        """The bytes from the lowest to the highest one."""

    @property
    def pages(self) -> tuple[int, int]:
        """Start and stop of the pages that hold them."""

    @property
    def whole(self) -> bool:
        """Whether the target fills its pages to the last byte, with raw data."""

    @property
    def contiguous(self) -> bool:
        """Whether no bytes lie between those of the target."""

    @property
    def raw(self) -> bool:
        """Whether the bytes are data, not references to objects, as far as the buffer protocol tells."""

    def arm(self, start: int, stop: int, /) -> None:
        """Say which pages hold raw data and nothing else: there, blocked accesses may be recovered.

        Without it, those of a target that is whole and raw.
        """

    def keep(self, atomic: bool, /) -> None:
        """Protect the pages for good, and hold the buffer until they permit again what they permitted.

        :param atomic: on failure, put back what was applied.
        :raises RuntimeError: it was used before.
        :raises OSError: what the registered function makes of the errno.
        """

    def __enter__(self) -> Any: ...
    def __exit__(self, *exception: object) -> None: ...

def close_open_pages(start: int, stop: int, /) -> None:
    """Take back what recovered faults have let through in a range that the caller keeps.

    :raises OSError: a page cannot be closed.
    """

def set_protection_errors(
    refused: Callable[[int, int, int, int], BaseException], lost: Callable[[int, int, int, int, int], BaseException], /
) -> None:
    """Register what failures become.

    :param refused: makes the exception of a failed mprotect, from ``(errno, start, length, prot)``.
    :param lost: that of memory that could not be put back, from ``(kind, start, stop, prot, errno)``; kind is 1 for
        a hole, 2 for another mapping, 3 where the kernel refused, and 0 for memory that could not be looked at first.
    """

# Guards (_native/numpy.c, stacks.c)

def array_type(ndarray: type, flatiter: type, /) -> type:
    """The type of arrays whose statements raise the faults they meet: a subclass of ``numpy.ndarray``.

    It differs in that only, its views are of the same type, and copies of it and results computed from it are plain.

    :param ndarray: ``numpy.ndarray``; building memprot needs no NumPy, so it is handed in.
    :param flatiter: ``numpy.flatiter``.
    :raises RuntimeError: this NumPy is built in a way that is not known.
    """

def exact_arrays(ndarray: type, flatiter: type, /) -> None:
    """Have the statements of plain arrays raise the faults they meet, too.

    The two types get tables of operations that call what was there, and then look for a fault. What Python code has
    derived from them keeps what it has.

    :param ndarray: ``numpy.ndarray``.
    :param flatiter: ``numpy.flatiter``.
    :raises RuntimeError: this NumPy is built in a way that is not known.
    """

def inexact_arrays() -> None:
    """Put back what was there, unless somebody else has replaced it meanwhile."""

def numpy_enable(umath: ModuleType, side: int, align: int, sample: int, /) -> None:
    """Serve NumPy's arrays from guard pools.

    :param umath: NumPy's extension module ``_multiarray_umath``.
    :param side: where the guard stands, an ``enum memprot_side``.
    :param align: a power of two up to the page size that each array's address is a multiple of.
    :param sample: one array of so many is guarded.
    :raises RuntimeError: NumPy is older than 1.22.
    """

def numpy_disable() -> None:
    """Serve new arrays by NumPy's own functions again; guarded ones stay as they are."""

def allocator_enable(owner: int, side: int, align: int, sample: int, /) -> None:
    """Serve one of Python's domains of memory from guard pools (PEP 445).

    :param owner: whose blocks, an ``enum memprot_guard_owner``.
    :param side: where the guard stands, an ``enum memprot_side``.
    :param align: a power of two up to the page size that each block's address is a multiple of.
    :param sample: one block of so many is guarded.
    :raises ValueError: the owner is no domain of Python's.
    :raises RuntimeError: this Python's objects have to stay with its own allocator.
    """

def allocator_disable(owner: int, /) -> None:
    """Serve new blocks of a domain by Python's own functions again; guarded ones stay as they are.

    :raises ValueError: the owner is no domain of Python's.
    """

def allocators_pause() -> None:
    """Serve what the calling thread allocates by Python's own functions until it resumes; calls nest."""

def allocators_resume() -> None:
    """End the last pause of the calling thread, where there is one."""

def malloc_configure(sample: int, side: int, align: int, /) -> None:
    """Serve malloc from guard pools.

    :param sample: one block of so many is guarded; 0 guards none.
    :param side: where the guard stands, an ``enum memprot_side``.
    :param align: a power of two up to the page size that each block's address is a multiple of.
    :raises RuntimeError: the library that does it was not preloaded.
    """

def malloc_is_ours() -> bool:
    """Whether the library was preloaded."""

def malloc_sampled_out() -> int:
    """How many blocks of malloc were not guarded because others were the sample."""

def native_stack(number: int, /) -> tuple[int, ...]:
    """The return addresses of a native stack that the core has numbered, innermost first; none for 0."""

def guard_statistics(owner: int, /) -> dict[str, int]:
    """What the guard pools have done for one who hands out blocks.

    :param owner: an ``enum memprot_guard_owner``.
    :return: blocks, bytes, live_blocks, live_bytes, unguarded, left_alone, sampled_out, overhead, quarantined, slack.
    :raises ValueError: there is no such owner.
    """

def guard_refusal(owner: int, /) -> int:
    """Why a block of theirs was not guarded, the last time: an ``enum memprot_guard_refusal``; 0 when each was.

    :param owner: an ``enum memprot_guard_owner``.
    :raises ValueError: there is no such owner.
    """

def guard_quarantine(limit: int, /) -> None:
    """Keep freed blocks inaccessible, the youngest of so many bytes; those that are too many now are given back.

    :param limit: in bytes; 0 keeps none.
    """

def guard_check() -> int:
    """Look at the slack of all live blocks; what was overwritten is recorded, and raised where that is the policy.

    :return: how many blocks have any.
    """

def stack_frames(stack: int, /) -> tuple[tuple[str, int, str], ...]:
    """The frames of a captured stack, innermost first: file, line, function. Empty for 0."""

"""The compiled part of memprot: the only code that knows both C and Python."""

import os

def symbol(address: int, /) -> tuple[str | None, str | None, int | None, int | None]:
    """Say which function of which library an address of this process lies in.

    Static functions are found too, where the library's file has a full symbol table.

    :param address: of an instruction. For the frame of a caller pass its return address minus 1: the return
        address itself may be the first of the next function.
    :return: ``(function, library, offset, position)``: the symbol's name (not demangled), the path of the object,
        the bytes from the start of the function, or from the load address if no function is known, and the virtual
        address in the object's file (None where that is not the one that was loaded).
        All None for an address in no loaded object, as that of code made at run time.
    :raises TypeError: if the address is not an int.
    :raises OverflowError: if the address is negative or has more than 64 bits.

    Source: dl_iterate_phdr(3), dladdr(3), elf(5). Example:

    >>> import ctypes
    >>> from memprot import _native
    >>> address = ctypes.cast(ctypes.CDLL(None).qsort, ctypes.c_void_p).value
    >>> function, library, offset, position = _native.symbol(address + 4)
    >>> function, offset
    ('qsort', 4)
    """

def symbol_in_file(path: str | os.PathLike[str], address: int, /) -> tuple[str | None, str, int, int | None]:
    """Say which function of an ELF file lies at a virtual address, as :func:`symbol` does for this process.

    :param path: of a 64-bit ELF file.
    :param address: virtual address in the file: that of the process minus the load bias of the object.
    :raises OSError: if the file cannot be read; errno is ENOEXEC for anything but a 64-bit ELF file.
    :raises TypeError: if the address is not an int.
    :raises OverflowError: if the address is negative or has more than 64 bits.

    Source: elf(5). Example:

    >>> import sys
    >>> from memprot import _native
    >>> function, library, offset, position = _native.symbol_in_file(sys.executable, 0)
    >>> function is None, library == sys.executable
    (True, True)
    """

def symbol_at_file_offset(path: str | os.PathLike[str], offset: int, /) -> tuple[str | None, str, int, int | None]:
    """Say which function of an ELF file lies at an offset in it.

    :param path: of a 64-bit ELF file.
    :param offset: in bytes: what a line of ``/proc/PID/maps`` gives, ``address - start + offset``.
    :raises OSError: if the file cannot be read; errno is ENOEXEC for anything but a 64-bit ELF file.
    :raises TypeError: if the offset is not an int.
    :raises OverflowError: if the offset is negative or has more than 64 bits.

    Source: proc_pid_maps(5), elf(5). Example:

    >>> import sys
    >>> from memprot import _native
    >>> function, library, offset, position = _native.symbol_at_file_offset(sys.executable, 0)
    >>> function is None, library == sys.executable
    (True, True)
    """

# What the process leaves behind (_native/exit.c)

def set_exit(
    pid: int, path: bytes | None, head: bytes, body: bytes, words: bytes, listed: bool, replacement: int
) -> None:
    """Say what the process leaves behind when it ends by exit(3); an earlier call is forgotten.

    :param pid: the process that leaves it: forked children leave nothing.
    :param path: of the document; None for no document.
    :param head: the document up to the exit status, which only C knows.
    :param body: the document behind the status, up to the last fault; ``]}`` and a newline follow it.
    :param words: written to standard error.
    :param listed: whether ``body`` ends with a fault.
    :param replacement: what status 0 becomes; 0 leaves it.
    :raises OSError: there is no memory for the copies.

    Source: on_exit(3).

    >>> import subprocess, sys
    >>> program = "from memprot import _native; _native.set_exit({}, None, b'', b'', b'bye', False, 3)"
    >>> program = "import os; " + program.format("os.getpid()")
    >>> program = "from memprot import _native; import os; "
    >>> program += "_native.set_exit(os.getpid(), None, b'', b'', b'bye', False, 3)"
    >>> done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE)
    >>> done.returncode, done.stderr
    (3, b'bye')
    """

def leave(status: int) -> int:
    """Leave it now instead of at exit(3); what the process is to end with.

    :param status: what the process wants to end with.

    >>> from memprot import _native
    >>> _native.leave(0)
    0
    """

def die(signal: int, fault: bytes = b"") -> None:
    """Write the document as that of a process that dies of a signal; nothing when there is none to write.

    :param signal: its number.
    :param fault: the JSON of a fault that the document does not have yet.
    :raises OSError: with the errno of what could not be done to the file.

    >>> import signal
    >>> from memprot import _native
    >>> _native.die(signal.SIGSEGV)
    """

def write_document(path: bytes, document: bytes) -> None:
    """Replace a file as a whole, or write to the pipe or terminal that the path leads to.

    :param path: of the file; its symbolic links are replaced, not followed.
    :param document: all of its content.
    :raises OSError: with the errno of what could not be done to the file.

    Source: rename(2).

    >>> import os, pathlib, tempfile
    >>> from memprot import _native
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "report.json")
    ...     _native.write_document(os.fsencode(path), b"{}")
    ...     path.read_text(), os.listdir(folder)
    ('{}', ['report.json'])
    """

# Functions in another's place (_native/interpose.c)

def interpose(
    function: Callable[_P, _R],
    before: Callable[..., object] | None = None,
    after: Callable[..., object] | None = None,
) -> Callable[_P, _R]:
    """A builtin that does what ``function`` does and has its name, module, signature and documentation.

    It leaves no frame in tracebacks, and pickles as ``function`` does once it has taken its place.

    :param function: a builtin function.
    :param before: called with the same arguments first.
    :param after: called with the same arguments when ``function`` has not raised. What the two return is
        dropped; what they raise goes to :func:`sys.unraisablehook`.
    :raises TypeError: ``function`` is no builtin.

    >>> from memprot import _native
    >>> said = []
    >>> _native.interpose(len, before=said.append)("three"), said
    (5, ['three'])
    """
