"""A file as mappings see it: how it was opened, how long it is, what may be done with it."""

from itertools import count
from typing import Protocol
from weakref import WeakSet

from memprot.model.bits import PAGE

__all__ = ["F_SEAL_FUTURE_WRITE", "F_SEAL_WRITE", "File"]

F_SEAL_WRITE = 0x8
F_SEAL_FUTURE_WRITE = 0x10

_next_inode = count(1)


class _Mapper(Protocol):
    def file_shrank(self, file: "File") -> None: ...


class File:
    """An open file, to be mapped by one address space or by several; it has no contents, only a length.

    :param name: what /proc/PID/maps shows.
    :param size: in bytes. An access to a page beyond it is a bus error.
    :param device: the major and the minor number.
    :param inode: None for the next of the model's own.
    :param readable: whether it was opened for reading.
    :param writable: whether it was opened for writing.
    :param executable: False on a file system that is mounted noexec.
    :param seals: the F_SEAL bits of a memfd (fcntl(2)); those against writing matter here.

    Source: do_mmap, mm/mmap.c; mm/memfd.c; mm/filemap.c.

    >>> from memprot import Prot
    >>> from memprot.flags import MapFlag
    >>> from memprot.model import AddressSpace, File
    >>> space = AddressSpace()
    >>> file = File("/etc/hosts", 100)
    >>> address = space.mmap(0, 8192, Prot.READ, MapFlag.PRIVATE, file)
    >>> space.access(address, "read").ok, space.access(address + 4096, "read").code
    (True, 'BUS_ADRERR')
    """

    def __init__(
        self,
        name: str,
        size: int,
        device: tuple[int, int] = (8, 1),
        inode: int | None = None,
        readable: bool = True,
        writable: bool = True,
        executable: bool = True,
        seals: int = 0,
    ) -> None:
        self.name = name
        self.size = size
        self.device = device
        self.inode = next(_next_inode) if inode is None else inode
        self.readable = readable
        self.writable = writable
        self.executable = executable
        self.seals = seals
        self._mapped_by: WeakSet[_Mapper] = WeakSet()

    @property
    def pages(self) -> int:
        """How many pages it fills, the last one perhaps in part."""
        return -(-self.size // PAGE)

    @property
    def write_sealed(self) -> bool:
        """Whether a seal forbids new shared mappings that can be written."""
        return bool(self.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))

    def truncate(self, size: int) -> None:
        """Change the length; pages beyond it leave every address space that maps them.

        Guard markers stay where they are.
        """
        shrinks = size < self.size
        self.size = size
        if shrinks:
            for memory in self._mapped_by:
                memory.file_shrank(self)

    def mapped_by(self, memory: _Mapper) -> None:
        """Note who has to know when the length changes."""
        self._mapped_by.add(memory)

    def __repr__(self) -> str:
        return f"File({self.name!r}, {self.size})"
