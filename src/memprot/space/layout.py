"""A fixed picture of an address space, and what has changed between two of them.

>>> from memprot import AddressSpace
>>> layout = AddressSpace().snapshot()
>>> layout.diff(layout).changed
[]
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

import memprot._native as _native
from memprot.space.mapping import Mapping

__all__ = ["Layout", "LayoutDifference"]

_Pair = tuple[Mapping, Mapping]


class LayoutDifference(NamedTuple):
    """What happened between two layouts; pairs are (before, after).

    >>> from memprot.space.layout import Layout, LayoutDifference
    >>> Layout().diff(Layout())
    LayoutDifference(appeared=[], gone=[], changed=[], grown=[], moved=[])
    """

    appeared: list[Mapping]
    """Mappings of which nothing was there before."""
    gone: list[Mapping]
    """Mappings of which nothing is left."""
    changed: list[_Pair]
    """The same memory with another protection, or with a part of it unmapped."""
    grown: list[_Pair]
    """The same memory and more beside it."""
    moved: list[_Pair]
    """A mapping that went away and one just like it that appeared elsewhere, when there is one of each."""


class Layout(Sequence[Mapping]):
    """The mappings of an address space at one moment: ordered, without overlaps, and fixed.

    :param mappings: in the order of their addresses, as :class:`memprot.AddressSpace` gives them.

    >>> from memprot import Mapping
    >>> from memprot.space.layout import Layout
    >>> layout = Layout([Mapping(0x1000, 0x3000, "r--"), Mapping(0x5000, 0x6000, "rw-")])
    >>> layout.find(0x2fff)
    <Mapping 0x1000-0x3000 r--p anonymous>
    >>> layout.gaps()
    [(12288, 20480)]
    """

    def __init__(self, mappings: Iterable[Mapping] = ()) -> None:
        self._mappings = tuple(mappings)
        self._starts = [mapping.start for mapping in self._mappings]

    @classmethod
    def parse(cls, text: bytes) -> "Layout":
        """The layout that a saved /proc/PID/maps describes.

        :param text: whole lines. Overlapping ones are clipped, those out of order left out.
        :raises ValueError: for a line of another form; says which one.

        >>> from memprot.space.layout import Layout
        >>> len(Layout.parse(b""))
        0
        """
        return cls(_native.parse_maps(text))

    def __len__(self) -> int:
        return len(self._mappings)

    def __iter__(self) -> Iterator[Mapping]:
        return iter(self._mappings)

    @overload
    def __getitem__(self, index: int) -> Mapping: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Mapping, ...]: ...
    def __getitem__(self, index: int | slice) -> Mapping | tuple[Mapping, ...]:
        return self._mappings[index]

    def __eq__(self, other: object) -> bool:
        return self._mappings == other._mappings if isinstance(other, Layout) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._mappings)

    def __repr__(self) -> str:
        return f"<Layout of {len(self)} mappings>"

    def find(self, address: int) -> Mapping | None:
        """The mapping that holds an address, or None.

        :param address: any int.
        """
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address in self._mappings[index]:
            return self._mappings[index]
        return None

    def gaps(self) -> list[tuple[int, int]]:
        """The ranges ``(start, stop)`` between neighbouring mappings that nothing is mapped at.

        What lies below the first mapping and above the last one is none of them. On x86-64 the last gap may
        be the one before ``[vsyscall]``, most of which no program can use.
        """
        neighbours = zip(self._mappings, self._mappings[1:], strict=False)
        return [(one.stop, other.start) for one, other in neighbours if one.stop < other.start]

    def diff(self, earlier: "Layout") -> LayoutDifference:
        """What has happened since an earlier layout of the same process.

        :param earlier: the layout to compare with.

        Memory is taken for the same when the ranges overlap and belong to the same file at the same offset,
        or to memory of the same name. A mapping that was split or merged without any change to a page is no
        difference. The kernel keeps no record of moves: an unmapping and a mapping of the same size,
        protection and file are taken for one when nothing else fits.

        >>> from memprot import Mapping
        >>> from memprot.space.layout import Layout
        >>> before = Layout([Mapping(0x1000, 0x4000, "rw-")])
        >>> after = Layout([Mapping(0x1000, 0x2000, "rw-"), Mapping(0x2000, 0x4000, "r--")])
        >>> after.diff(before).changed
        [(<Mapping 0x1000-0x4000 rw-p anonymous>, <Mapping 0x2000-0x4000 r--p anonymous>)]
        """
        appeared: list[Mapping] = []
        changed: list[_Pair] = []
        grown: list[_Pair] = []
        remains: dict[Mapping, list[Mapping]] = {}
        for after in self:
            overlapping = earlier._within(after.start, after.stop)
            same = [before for before in overlapping if _is_same_memory(before, after)]
            for before in same:
                remains.setdefault(before, []).append(after)
                if before.prot != after.prot:
                    changed.append((before, after))
            if not same:
                appeared.append(after)
            elif sum(_common(before, after) for before in overlapping) < len(after):
                grown.append((same[-1] if same[-1].start < after.start else same[0], after))
        gone = [before for before in earlier if before not in remains]
        for before, parts in remains.items():
            lost = sum(_common(before, after) for after in parts) < len(before)
            if lost and all(before.prot == after.prot for after in parts):
                changed.append((before, parts[0]))
        moved = _moves(appeared, gone)
        arrived = set(moved.values())
        return LayoutDifference(
            [mapping for mapping in appeared if mapping not in arrived],
            [mapping for mapping in gone if mapping not in moved],
            sorted(changed),
            grown,
            list(moved.items()),
        )

    def _within(self, start: int, stop: int) -> tuple[Mapping, ...]:
        first = max(bisect_right(self._starts, start) - 1, 0)
        last = bisect_right(self._starts, stop - 1)
        return tuple(mapping for mapping in self._mappings[first:last] if mapping.stop > start)


def _common(one: Mapping, other: Mapping) -> int:
    return min(one.stop, other.stop) - max(one.start, other.start)


def _identity(mapping: Mapping) -> tuple[object, ...]:
    return mapping.kind, mapping.shared, mapping.device, mapping.inode, mapping.path


def _is_same_memory(one: Mapping, other: Mapping) -> bool:
    return _identity(one) == _identity(other) and (
        one.inode == 0 or one.offset - one.start == other.offset - other.start
    )


def _moves(appeared: list[Mapping], gone: list[Mapping]) -> dict[Mapping, Mapping]:
    """What went away and what came in its place, where there is exactly one of each kind and size."""

    def alike(mappings: list[Mapping]) -> dict[tuple[object, ...], list[Mapping]]:
        groups: dict[tuple[object, ...], list[Mapping]] = {}
        for mapping in mappings:
            groups.setdefault((*_identity(mapping), mapping.size, mapping.prot, mapping.offset), []).append(mapping)
        return groups

    new = alike(appeared)
    return {
        old[0]: new[likeness][0]
        for likeness, old in alike(gone).items()
        if len(old) == 1 and len(new.get(likeness, ())) == 1
    }
