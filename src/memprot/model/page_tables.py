"""The page tables of the model: which pages are there, and the walk that the processor makes to find one.

Leaf tables of 512 entries are dictionaries, kept by the address bits above them; the levels over them follow
from those: an entry of a higher level is present while a leaf below it is.
"""

from typing import TYPE_CHECKING

from memprot.model.bits import PAGE_SHIFT, VM_ACCESS, VM_EXEC, VM_MAYSHARE, VM_PKEY, VM_PKEY_SHIFT, VM_WRITE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memprot.model.mapping import Mapping

__all__ = ["ACCESSED", "DIRTY", "GUARD", "INHERITED", "OWN", "PRESENT", "Entry", "PageTables", "Walk"]

PRESENT = 1
OWN = 2
"""A private page of this mapping: a copy, or fresh memory."""
DIRTY = 4
ACCESSED = 8
INHERITED = 16
"""Shared with a parent or a child until one of them writes it."""
GUARD = 32
"""No page but a marker, put there by MADV_GUARD_INSTALL: every access dies."""

_LEAF_SHIFT = 21
_LEAF_PAGES = 512
_NAMES = {4: ("PGD", "PUD", "PMD", "PTE"), 5: ("PGD", "P4D", "PUD", "PMD", "PTE")}


class Entry:
    """One step of a walk: the entry of a table that the processor reads.

    :ivar level: the name of the table: PGD, P4D (five levels only), PUD, PMD or PTE.
    :ivar index: which of its 512 entries; nine bits of the address.
    :ivar present: whether it leads on; without it the other bits mean nothing and the processor faults.
    :ivar writable: whether what lies below may be written.
    :ivar user: whether programs may use it, and not the kernel alone.
    :ivar accessed: whether the processor has used it.
    :ivar dirty: whether the page was written.
    :ivar no_execute: whether what lies below may not be executed.
    :ivar key: the protection key of the page; 0 above the PTE.

    Source: arch/x86/include/asm/pgtable_types.h.

    >>> from memprot.model.page_tables import Entry
    >>> Entry("PTE", 12)
    <Entry PTE[12] not present>
    """

    __slots__ = ("accessed", "dirty", "index", "key", "level", "no_execute", "present", "user", "writable")

    def __init__(
        self,
        level: str,
        index: int,
        present: bool = False,
        writable: bool = False,
        user: bool = False,
        accessed: bool = False,
        dirty: bool = False,
        no_execute: bool = False,
        key: int = 0,
    ) -> None:
        self.level = level
        self.index = index
        self.present = present
        self.writable = writable
        self.user = user
        self.accessed = accessed
        self.dirty = dirty
        self.no_execute = no_execute
        self.key = key

    def __repr__(self) -> str:
        return f"<Entry {self}>"

    def __str__(self) -> str:
        if not self.present:
            return f"{self.level}[{self.index}] not present"
        bits = ["present"]
        bits += [name for name in ("writable", "user", "accessed", "dirty") if getattr(self, name)]
        bits += ["no-execute"] if self.no_execute else []
        bits += [f"key {self.key}"] if self.key else []
        return f"{self.level}[{self.index}] {' '.join(bits)}"


class Walk:
    """The walk from the root of the page tables to the page of an address; ends where an entry is not present.

    :ivar address: the address.
    :ivar entries: an :class:`Entry` for each level that is reached.

    >>> from memprot.model import AddressSpace
    >>> print(AddressSpace().walk(0x401000))
    PGD[0] not present
    """

    __slots__ = ("address", "entries")

    def __init__(self, address: int, entries: tuple[Entry, ...]) -> None:
        self.address = address
        self.entries = entries

    def __repr__(self) -> str:
        return f"<Walk of {self.address:#x}: {', '.join(map(str, self.entries))}>"

    @property
    def present(self) -> bool:
        """Whether the walk reaches a page."""
        return self.entries[-1].level == "PTE" and self.entries[-1].present

    def __iter__(self) -> "Iterator[Entry]":
        return iter(self.entries)

    def __str__(self) -> str:
        return "\n".join(map(str, self.entries))


class PageTables:
    """The pages of an address space, each with the bits that this module names; the rest follows from its mapping.

    Source: arch/x86/mm, mm/memory.c.

    >>> from memprot.model.page_tables import PRESENT, PageTables
    >>> tables = PageTables()
    >>> tables.set(0x401, PRESENT)
    >>> tables.get(0x401), tables.get(0x402)
    (1, 0)
    """

    __slots__ = ("_leaves",)

    def __init__(self) -> None:
        self._leaves: dict[int, dict[int, int]] = {}

    def get(self, page: int) -> int:
        """The bits of a page, by its number (its address / 4096); 0 when there is none."""
        leaf = self._leaves.get(page >> 9)
        return 0 if leaf is None else leaf.get(page, 0)

    def set(self, page: int, bits: int) -> None:
        """Give a page its bits; 0 takes it away."""
        leaf = self._leaves.get(page >> 9)
        if leaf is None:
            if not bits:
                return
            leaf = self._leaves[page >> 9] = {}
        if bits:
            leaf[page] = bits
        elif leaf.pop(page, 0) and not leaf:
            del self._leaves[page >> 9]

    def pages(self, start: int, stop: int) -> list[int]:
        """The numbers of the pages with bits in ``[start, stop)``, which are addresses."""
        leaves = self._leaves
        if not leaves:
            return []
        first, last = start >> PAGE_SHIFT, stop >> PAGE_SHIFT
        low, high = start >> _LEAF_SHIFT, (stop - 1) >> _LEAF_SHIFT
        chosen = range(low, high + 1) if high - low < len(leaves) else sorted(n for n in leaves if low <= n <= high)
        found: list[int] = []
        for number in chosen:
            leaf = leaves.get(number)
            if leaf is None:
                continue
            inside = range(max(first, number << 9), min(last, number + 1 << 9))
            if len(inside) < len(leaf):
                found += [page for page in inside if page in leaf]
            else:
                found += [page for page in leaf if page in inside]
        return found

    def clear(self, start: int, stop: int, guards: bool) -> None:
        """Drop the pages of ``[start, stop)``; guard markers only if ``guards`` (zap_page_range)."""
        for page in self.pages(start, stop):
            if guards or not self.get(page) & GUARD:
                self.set(page, 0)

    def move(self, start: int, stop: int, target: int) -> None:
        """Hang the pages of ``[start, stop)`` in at another address (move_page_tables, mm/mremap.c)."""
        distance = (target - start) >> PAGE_SHIFT
        moved = [(page, self.get(page)) for page in self.pages(start, stop)]
        for page, _ in moved:
            self.set(page, 0)
        for page, bits in moved:
            self.set(page + distance, bits)

    def walk(self, address: int, mapping: "Mapping | None", levels: int) -> Walk:
        """The walk for an address that lies in ``mapping``, through four or five levels."""
        names = _NAMES[levels]
        entries = []
        for depth, name in enumerate(names[:-1]):
            shift = PAGE_SHIFT + 9 * (levels - 1 - depth)
            present = any(number >> (shift - _LEAF_SHIFT) == address >> shift for number in self._leaves)
            entries.append(Entry(name, (address >> shift) & 511, present, present, present, present, present))
            if not present:
                return Walk(address, tuple(entries))
        entries.append(self._leaf_entry(address, mapping))
        return Walk(address, tuple(entries))

    def _leaf_entry(self, address: int, mapping: "Mapping | None") -> Entry:
        bits = self.get(address >> PAGE_SHIFT)
        index = (address >> PAGE_SHIFT) & 511
        # Without any access the kernel takes the present bit away, and keeps the page.
        if mapping is None or not bits & PRESENT or not mapping.flags & VM_ACCESS:
            return Entry("PTE", index)
        flags = mapping.flags
        mine = flags & VM_MAYSHARE or bits & (OWN | INHERITED) == OWN
        return Entry(
            "PTE",
            index,
            present=True,
            writable=bool(flags & VM_WRITE and mine),
            user=True,
            accessed=bool(bits & ACCESSED),
            dirty=bool(bits & DIRTY),
            no_execute=not flags & VM_EXEC,
            key=(flags & VM_PKEY) >> VM_PKEY_SHIFT,
        )
