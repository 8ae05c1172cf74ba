"""One mapping of the model: a range of addresses whose pages all have the same attributes."""

from typing import TYPE_CHECKING

from memprot.model.bits import (
    PAGE_SHIFT,
    VM_ACCESS,
    VM_LOCKED,
    VM_MAYSHARE,
    VM_PKEY,
    VM_PKEY_SHIFT,
    VM_SEALED,
)
from memprot.prot import Prot

if TYPE_CHECKING:
    from memprot.model.file import File

__all__ = ["AnonVma", "Mapping"]


class AnonVma:
    """What ties the private pages of a mapping to it, so that the kernel finds all who map a page.

    A mapping gets one when its first private page is written; the halves of a split share it. Two mappings
    that have different ones never merge.

    :ivar inherited: made for a child process, whose pages are still its parent's.

    Source: mm/rmap.c, include/linux/rmap.h.

    >>> from memprot.model.mapping import AnonVma
    >>> AnonVma().inherited
    False
    """

    __slots__ = ("inherited",)

    def __init__(self, inherited: bool = False) -> None:
        self.inherited = inherited


class Mapping:
    """A mapping, ``[start, stop)``, as a line of /proc/PID/maps shows it; the kernel's ``vm_area_struct``.

    :ivar start: the first address.
    :ivar stop: the address after the last.
    :ivar flags: the bits of :mod:`memprot.model.bits`.
    :ivar pgoff: the page of the file at ``start``. Memory without a file counts as if a file began at address
        0, and keeps the number when it is moved: so the kernel recognises neighbours that were one.
    :ivar file: the :class:`File`, or None for private memory without one.
    :ivar anon_vma: see :class:`AnonVma`; None until a private page is written.
    :ivar previous: the mapping below, or None.
    :ivar next: the mapping above, or None.

    Source: include/linux/mm_types.h.

    >>> from memprot import Prot
    >>> from memprot.flags import MapFlag
    >>> from memprot.model import AddressSpace
    >>> space = AddressSpace()
    >>> _ = space.mmap(0x10000, 8192, Prot("rw-"), MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED)
    >>> space.mappings[0]
    Mapping(0x10000-0x12000 rw-p)
    """

    __slots__ = ("anon_vma", "file", "flags", "next", "pgoff", "previous", "start", "stop")

    def __init__(
        self, start: int, stop: int, flags: int, pgoff: int, file: "File | None" = None, anon_vma: AnonVma | None = None
    ) -> None:
        self.start = start
        self.stop = stop
        self.flags = flags
        self.pgoff = pgoff
        self.file = file
        self.anon_vma = anon_vma
        self.previous: Mapping | None = None
        self.next: Mapping | None = None

    @property
    def prot(self) -> Prot:
        """What mprotect set."""
        return Prot(self.flags & VM_ACCESS)

    @property
    def shared(self) -> bool:
        """Whether it was mapped shared."""
        return bool(self.flags & VM_MAYSHARE)

    @property
    def locked(self) -> bool:
        """Whether mlock holds its pages in memory."""
        return bool(self.flags & VM_LOCKED)

    @property
    def sealed(self) -> bool:
        """Whether mseal protects it from changes."""
        return bool(self.flags & VM_SEALED)

    @property
    def key(self) -> int:
        """The number of its protection key."""
        return (self.flags & VM_PKEY) >> VM_PKEY_SHIFT

    @property
    def size(self) -> int:
        """In bytes."""
        return self.stop - self.start

    @property
    def offset(self) -> int:
        """Where in the file it begins, in bytes; 0 without a file."""
        return 0 if self.file is None else self.pgoff << PAGE_SHIFT

    @property
    def permissions(self) -> str:
        """The four letters of /proc/PID/maps."""
        return f"{self.prot}{'s' if self.shared else 'p'}"

    def page_offset(self, address: int) -> int:
        """The page of the file that an address of this mapping shows."""
        return self.pgoff + ((address - self.start) >> PAGE_SHIFT)

    def __repr__(self) -> str:
        name = "" if self.file is None else f" {self.file.name}"
        return f"Mapping({self.start:#x}-{self.stop:#x} {self.permissions}{name})"
