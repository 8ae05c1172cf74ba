"""A live address space: which memory a process has, read from the kernel each time it is asked.

>>> from memprot import AddressSpace
>>> any(mapping.path == "[stack]" for mapping in AddressSpace())
True
"""

import errno
import os
from collections.abc import Iterator
from typing import NoReturn

from memprot._native import MapsFile
from memprot.space.layout import Layout, LayoutDifference
from memprot.space.mapping import Mapping

__all__ = ["AddressSpace", "refuse"]

_GONE = (errno.ENOENT, errno.ESRCH, errno.ENOTDIR)
_REFUSED = (errno.EACCES, errno.EPERM)


class AddressSpace:
    """The address space of a process: an iterable of :class:`memprot.Mapping`, live.

    :param pid: the process; None for the one that asks, which after a fork is the child.
    :raises ProcessLookupError: when there is no such process, or it has no address space (it has ended, or is
        a thread of the kernel). A process that ends later is noticed at the next question, also when its
        number has been given to another one.
    :raises PermissionError: when its memory may not be looked at; says why.
    :raises TypeError: for a pid that is no int.
    :raises OverflowError: for a pid that does not fit in 64 bits.

    Each iteration is a fresh reading: ordered, without overlaps, though other threads may map and unmap
    meanwhile.
    :meth:`find` asks the kernel about one address and reads no text. The object holds a descriptor or two,
        and
    closes them when it goes away.

    Source: proc_pid_maps(5), fs/proc/task_mmu.c, ptrace(2) on who may look.

    >>> from memprot import AddressSpace
    >>> space = AddressSpace()
    >>> first = next(iter(space))
    >>> space.find(first.start) == first
    True
    """

    __slots__ = ("__weakref__", "_maps", "_pid")

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid
        try:
            self._maps = MapsFile(pid)
        except OSError as error:
            refuse(pid, error)

    def __iter__(self) -> Iterator[Mapping]:
        """Every mapping, in the order of their addresses.

        :raises ProcessLookupError: when the process has ended.
        :raises PermissionError: when its memory may not be looked at any more.
        """
        return iter(self._read())

    def __repr__(self) -> str:
        return "AddressSpace()" if self._pid is None else f"AddressSpace({self._pid})"

    def find(self, address: int) -> Mapping | None:
        """The mapping that holds an address; None where nothing is mapped.

        :param address: any int of 64 bits; nothing is mapped at a negative one.
        :raises ProcessLookupError: when the process has ended.
        :raises TypeError: for an address that is no int.
        :raises OverflowError: for an address that does not fit in 64 bits.

        >>> from memprot import AddressSpace
        >>> print(AddressSpace().find(0))
        None
        """
        try:
            return self._maps.find(address)
        except OSError as error:
            refuse(self._pid, error)

    def snapshot(self) -> Layout:
        """The mappings of this moment, fixed.

        :raises ProcessLookupError: when the process has ended.

        >>> from memprot import AddressSpace
        >>> layout = AddressSpace().snapshot()
        >>> layout[0].start < layout[-1].start
        True
        """
        return Layout(self._read())

    def gaps(self) -> list[tuple[int, int]]:
        """The ranges ``(start, stop)`` between neighbouring mappings where nothing is mapped now.

        :raises ProcessLookupError: when the process has ended.

        >>> from memprot import AddressSpace
        >>> all(start < stop for start, stop in AddressSpace().gaps())
        True
        """
        return self.snapshot().gaps()

    def diff(self, earlier: Layout) -> LayoutDifference:
        """What has happened since an earlier :meth:`snapshot`.

        :param earlier: a layout of the same process.
        :raises ProcessLookupError: when the process has ended.

        >>> from memprot import AddressSpace
        >>> space = AddressSpace()
        >>> space.diff(space.snapshot()).moved
        []
        """
        return self.snapshot().diff(earlier)

    def _read(self) -> list[Mapping]:
        try:
            return self._maps.read()
        except OSError as error:
            refuse(self._pid, error)


def refuse(pid: int | None, error: OSError) -> NoReturn:
    """Raise what it means that the files of a process in /proc cannot be opened or read.

    :param pid: the process; None for our own.
    :param error: what opening or reading gave.
    :raises ProcessLookupError: when there is no such process, or it has no address space.
    :raises PermissionError: when its memory may not be looked at; says why.
    :raises OSError: the error itself, when it is of another kind.

    >>> from memprot.space.maps import refuse
    >>> try:
    ...     refuse(2**22 + 1, FileNotFoundError(2, "no such file"))
    ... except ProcessLookupError as error:
    ...     print(error.strerror)
    there is no process 4194305, or it has no address space
    """
    if error.errno in _REFUSED:
        raise PermissionError(error.errno, f"the mappings of process {pid} may not be read: {_why(pid)}") from error
    if error.errno not in _GONE:
        raise error
    if not os.path.exists("/proc/self/maps"):
        raise FileNotFoundError(errno.ENOENT, "there is no /proc/self/maps; is /proc mounted?") from error
    if error.errno == errno.ENOENT and _exists(pid):
        raise PermissionError(
            errno.EPERM,
            f"process {pid} belongs to another user and /proc hides it (hidepid); ask as that user or root",
        ) from error
    raise ProcessLookupError(errno.ESRCH, f"there is no process {pid}, or it has no address space") from error


def _exists(pid: int | None) -> bool:
    if pid is None or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _why(pid: int | None) -> str:
    try:
        owner = os.stat(f"/proc/{pid}/status").st_uid  # root when not dumpable
        with open(f"/proc/{pid}/status") as status:
            uid = next(int(line.split()[1]) for line in status if line.startswith("Uid:"))
    except (OSError, StopIteration):
        return "it belongs to another user or protects itself; ask as root"
    if uid != os.getuid():
        return f"it belongs to user {uid} and you are user {os.getuid()}; ask as that user or as root"
    if owner != uid:
        return "not even its own user may look into it (a set-uid program, or not dumpable); ask as root"
    return "a security module or a missing capability (CAP_SYS_PTRACE) forbids it; ask as root"
