"""The mappings of an address space in the order of their addresses, quick to search and to change.

The kernel keeps them in a maple tree. Here they lie in chunks of about a hundred, so that a change moves few, and
each mapping knows its neighbours, so that a range is walked from one to the next.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

from memprot.model.bits import PAGE, VM_GROWSDOWN, WORD

if TYPE_CHECKING:
    from memprot.model.mapping import Mapping

__all__ = ["STACK_GUARD_GAP", "Mappings", "start_gap"]

STACK_GUARD_GAP = 256 * PAGE
"""The bytes below a mapping that grows down in which nothing else is placed."""

_MOST_IN_A_CHUNK = 128


def start_gap(mapping: "Mapping") -> int:
    """The lowest address that belongs to a mapping when others are placed.

    Source: vm_start_gap, include/linux/mm.h.

    >>> from memprot.model.bits import VM_GROWSDOWN
    >>> from memprot.model.mapping import Mapping
    >>> from memprot.model.mappings import start_gap
    >>> hex(start_gap(Mapping(0x7FF000, 0x800000, VM_GROWSDOWN, 0)))
    '0x6ff000'
    """
    if mapping.flags & VM_GROWSDOWN:
        return max(mapping.start - STACK_GUARD_GAP, 0)
    return mapping.start


def _gap(mapping: "Mapping") -> int:
    """The size of the hole directly below a mapping."""
    below = mapping.previous
    return mapping.start if below is None else mapping.start - below.stop


class _Chunk:
    __slots__ = ("items", "largest_gap", "starts")

    def __init__(self, starts: list[int], items: "list[Mapping]") -> None:
        self.starts = starts
        self.items = items
        # The largest of the holes directly below the items; None: to be measured.
        self.largest_gap: int | None = None

    def measure(self) -> int:
        self.largest_gap = max(map(_gap, self.items), default=0)
        return self.largest_gap

    def gap_changed(self, old: int, new: int) -> None:
        """One of the holes has another size now."""
        if self.largest_gap is None:
            return
        if new >= self.largest_gap:
            self.largest_gap = new
        elif old == self.largest_gap:
            self.largest_gap = None


class Mappings(Sequence["Mapping"]):
    """Mappings that do not overlap, by rising address.

    Source: the maple tree of struct mm_struct, include/linux/mm_types.h.

    >>> from memprot.model.mapping import Mapping
    >>> from memprot.model.mappings import Mappings
    >>> mappings = Mappings()
    >>> mappings.insert(Mapping(0x1000, 0x3000, 0, 1))
    >>> mappings.find(0x2000)
    Mapping(0x1000-0x3000 ---p)
    >>> mappings.at(0x3000) is None
    True
    """

    __slots__ = ("_bounds", "_chunks", "_count")

    def __init__(self) -> None:
        # A chunk holds what starts at its bound or above, and below the next chunk's bound. The first is 0.
        self._bounds = [0]
        self._chunks = [_Chunk([], [])]
        self._count = 0

    def find(self, address: int) -> "Mapping | None":
        """The first mapping that ends above the address (find_vma)."""
        chunk = self._chunks[bisect_right(self._bounds, address) - 1]
        place = bisect_right(chunk.starts, address) - 1
        if place >= 0:
            mapping = chunk.items[place]
            return mapping if mapping.stop > address else mapping.next
        if not chunk.items:
            return None
        mapping = chunk.items[0]
        below = mapping.previous
        return below if below is not None and below.stop > address else mapping

    def at(self, address: int) -> "Mapping | None":
        """The mapping that holds the address (vma_lookup)."""
        mapping = self.find(address)
        return mapping if mapping is not None and mapping.start <= address else None

    def below(self, address: int) -> "Mapping | None":
        """The last mapping that starts below the address."""
        number = bisect_left(self._bounds, address) - 1
        if number < 0:
            return None
        chunk = self._chunks[number]
        place = bisect_left(chunk.starts, address) - 1
        if place >= 0:
            return chunk.items[place]
        return chunk.items[0].previous if chunk.items else None

    def insert(self, mapping: "Mapping") -> None:
        """Put a mapping where nothing is."""
        number = bisect_right(self._bounds, mapping.start) - 1
        chunk = self._chunks[number]
        items = chunk.items
        place = bisect_right(chunk.starts, mapping.start)
        if place:
            below: Mapping | None = items[place - 1]
            above = items[place - 1].next
        elif items:
            above = items[0]
            below = above.previous
        else:
            below = above = None
        mapping.previous = below
        mapping.next = above
        if below is not None:
            below.next = mapping
        if above is not None:
            old = _gap(above)
            above.previous = mapping
            inside = place < len(items)
            (chunk if inside else self._chunks[number + 1]).gap_changed(old, above.start - mapping.stop)
        chunk.starts.insert(place, mapping.start)
        items.insert(place, mapping)
        chunk.gap_changed(0, _gap(mapping))
        self._count += 1
        if len(items) > _MOST_IN_A_CHUNK:
            self._halve(number)

    def remove(self, mapping: "Mapping") -> None:
        """Take a mapping out."""
        number, place = self._place(mapping.start)
        chunk = self._chunks[number]
        del chunk.starts[place]
        del chunk.items[place]
        chunk.gap_changed(_gap(mapping), 0)
        below, above = mapping.previous, mapping.next
        if below is not None:
            below.next = above
        if above is not None:
            old = _gap(above)
            above.previous = below
            inside = place < len(chunk.items)
            (chunk if inside else self._chunks[number + 1]).gap_changed(old, _gap(above))
        self._count -= 1
        if not chunk.items and len(self._chunks) > 1:
            del self._chunks[number]
            del self._bounds[number]
            self._bounds[0] = 0

    def set_start(self, mapping: "Mapping", start: int) -> None:
        """Move the start of a mapping, over free addresses or over some of its own."""
        number, place = self._place(mapping.start)
        chunk = self._chunks[number]
        old = _gap(mapping)
        chunk.starts[place] = start
        mapping.start = start
        chunk.gap_changed(old, _gap(mapping))
        bounds = self._bounds
        if start < bounds[number]:
            bounds[number] = start
        elif number + 1 < len(bounds) and start >= bounds[number + 1]:
            # What the next chunk began with is gone, and this mapping has grown over its place.
            bounds[number + 1] = self._chunks[number + 1].starts[0]

    def set_stop(self, mapping: "Mapping", stop: int) -> None:
        """Move the end of a mapping, over free addresses or over some of its own."""
        above = mapping.next
        if above is not None:
            chunk = self._chunks[bisect_right(self._bounds, above.start) - 1]
            chunk.gap_changed(_gap(above), above.start - stop)
        mapping.stop = stop

    def highest_gap(self, length: int, low: int, high: int) -> int | None:
        """Where ``length`` bytes fit highest in ``[low, high)``; their first address, or None.

        A hole directly below a stack that would do, but for the guard gap, lowers ``high`` to the end of the gap:
        so smaller holes inside the gap, between other mappings, are passed over too.

        Source: vm_unmapped_area and unmapped_area_topdown, mm/vma.c.
        """
        above = self.find(high)
        below = self.below(WORD) if above is None else above.previous
        floor = low if below is None else max(low, below.stop)
        ceiling = high if above is None else min(high, above.start)
        if ceiling - floor >= length:
            high = ceiling if above is None else min(high, start_gap(above))
            if high - floor >= length:
                return high - length
        if below is None:
            return None
        place: int | None
        number, place = self._place(below.start)
        while number >= 0:
            chunk = self._chunks[number]
            largest = chunk.largest_gap
            if (chunk.measure() if largest is None else largest) >= length:
                for item in reversed(chunk.items if place is None else chunk.items[: place + 1]):
                    floor = low if item.previous is None else max(low, item.previous.stop)
                    if min(item.start, high) - floor < length:
                        continue
                    high = min(high, start_gap(item))
                    if high - floor >= length:
                        return high - length
            number, place = number - 1, None
        return None

    def lowest_gap(self, length: int, low: int, high: int) -> int | None:
        """Where ``length`` bytes fit lowest in ``[low, high)``; their first address, or None.

        Source: unmapped_area, mm/vma.c.
        """
        mapping = self.find(low)
        while mapping is not None:
            floor = low if mapping.previous is None else max(low, mapping.previous.stop)
            if floor + length <= min(start_gap(mapping), high):
                return floor
            if mapping.stop >= high:
                return None
            low = max(low, mapping.stop)
            mapping = mapping.next
        return low if low + length <= high else None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> "Iterator[Mapping]":
        for chunk in self._chunks:
            yield from chunk.items

    @overload
    def __getitem__(self, index: int) -> "Mapping": ...

    @overload
    def __getitem__(self, index: slice) -> "list[Mapping]": ...

    def __getitem__(self, index: int | slice) -> "Mapping | list[Mapping]":
        if isinstance(index, slice):
            return list(self)[index]
        place = index + self._count if index < 0 else index
        if not 0 <= place < self._count:
            raise IndexError(f"there are {self._count} mappings, and none has the index {index}")
        for chunk in self._chunks:
            if place < len(chunk.items):
                return chunk.items[place]
            place -= len(chunk.items)
        raise AssertionError("the count and the chunks disagree")

    def _place(self, start: int) -> tuple[int, int]:
        number = bisect_right(self._bounds, start) - 1
        return number, bisect_left(self._chunks[number].starts, start)

    def _halve(self, number: int) -> None:
        chunk = self._chunks[number]
        middle = len(chunk.items) // 2
        upper = _Chunk(chunk.starts[middle:], chunk.items[middle:])
        del chunk.starts[middle:]
        del chunk.items[middle:]
        chunk.largest_gap = None
        self._chunks.insert(number + 1, upper)
        self._bounds.insert(number + 1, upper.starts[0])
