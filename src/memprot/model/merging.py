"""When neighbouring mappings become one, and when one becomes several.

The kernel keeps as few mappings as it can: each time it makes or changes one it looks whether the neighbours now
agree in everything. What it finds decides the lines of /proc/PID/maps.
"""

from errno import ENOMEM
from typing import TYPE_CHECKING

from memprot.model.bits import PAGE_SHIFT, VM_ACCESS
from memprot.model.mapping import AnonVma, Mapping
from memprot.model.refusal import RefusalError
from memprot.reason import Reason

if TYPE_CHECKING:
    from memprot.model.file import File
    from memprot.model.memory import Memory

__all__ = ["merge_new", "modify", "prepare_anon_vma", "split"]


def _compatible(target: AnonVma | None, source: AnonVma | None) -> bool:
    """Whether pages tied to ``source`` may go into a mapping tied to ``target`` (is_mergeable_anon_vma).

    With one of them the other is adopted, unless it came from a parent process: merging would let more pages
    share the parent's lock. Two must be the same.
    """
    if target is None:
        return source is None or not source.inherited
    if source is None:
        return not target.inherited
    return source is target


def split(memory: "Memory", mapping: Mapping, address: int, limited: bool = True) -> Mapping:
    """Cut a mapping in two; the new, lower part. Its ``AnonVma`` both keep.

    :param limited: whether the number of mappings may not pass the limit by this.

    Source: split_vma and __split_vma, mm/vma.c.

    >>> from memprot.model.mapping import Mapping
    >>> from memprot.model.memory import Memory
    >>> from memprot.model.merging import split
    >>> memory = Memory()
    >>> memory.mappings.insert(Mapping(0x1000, 0x4000, 0, 1))
    >>> split(memory, memory.mappings[0], 0x2000)
    Mapping(0x1000-0x2000 ---p)
    >>> memory.mappings[1].pgoff
    2
    """
    mappings = memory.mappings
    if limited and len(mappings) >= memory.limits.max_map_count:
        raise RefusalError(ENOMEM, Reason.MAPPING_LIMIT, mapping.start, mapping.stop)
    lower = Mapping(mapping.start, address, mapping.flags, mapping.pgoff, mapping.file, mapping.anon_vma)
    mapping.pgoff += (address - mapping.start) >> PAGE_SHIFT
    mappings.set_start(mapping, address)
    mappings.insert(lower)
    return lower


def modify(memory: "Memory", mapping: Mapping, start: int, stop: int, flags: int) -> Mapping:
    """Give a part of a mapping other flags: merge it with a neighbour, or split it off; where it is now.

    A merge comes first, so a change that only moves the boundary between two mappings needs no new one, and
    succeeds at the limit.

    Source: vma_modify, mm/vma.c.

    >>> from memprot.model.bits import VM_READ
    >>> from memprot.model.mapping import Mapping
    >>> from memprot.model.memory import Memory
    >>> from memprot.model.merging import modify
    >>> memory = Memory()
    >>> memory.mappings.insert(Mapping(0x1000, 0x4000, 0, 1))
    >>> _ = modify(memory, memory.mappings[0], 0x1000, 0x2000, VM_READ)
    >>> modify(memory, memory.mappings[1], 0x2000, 0x3000, VM_READ)
    Mapping(0x1000-0x3000 r--p)
    """
    if start == mapping.start or stop == mapping.stop:
        merged = _merge_existing(memory, mapping, start, stop, flags)
        if merged is not None:
            return merged
    if mapping.start < start:
        split(memory, mapping, start)
    if mapping.stop > stop:
        mapping = split(memory, mapping, stop)
    mapping.flags = flags
    return mapping


def _merge_existing(memory: "Memory", mapping: Mapping, start: int, stop: int, flags: int) -> Mapping | None:
    """Merge a part whose flags change with what lies beside it (vma_merge_existing_range)."""
    mappings = memory.mappings
    left = right = None
    if start == mapping.start:
        left = mapping.previous
        if left is not None and not (
            left.flags == flags
            and left.stop == start
            and left.file is mapping.file
            and left.pgoff + ((start - left.start) >> PAGE_SHIFT) == mapping.pgoff
            and _compatible(left.anon_vma, mapping.anon_vma)
        ):
            left = None
    if stop == mapping.stop:
        right = mapping.next
        if right is not None and not (
            right.flags == flags
            and right.start == stop
            and right.file is mapping.file
            and mapping.pgoff + ((stop - mapping.start) >> PAGE_SHIFT) == right.pgoff
            and _compatible(right.anon_vma, mapping.anon_vma)
            and not (left is not None and _differ(left, right))
        ):
            right = None
    whole = start == mapping.start and stop == mapping.stop
    if left is not None and right is not None:
        left.anon_vma = left.anon_vma or right.anon_vma or mapping.anon_vma
        mappings.remove(mapping)
        mappings.remove(right)
        mappings.set_stop(left, right.stop)
        return left
    if left is not None:
        left.anon_vma = left.anon_vma or mapping.anon_vma
        if whole:
            mappings.remove(mapping)
        else:
            mapping.pgoff += (stop - start) >> PAGE_SHIFT
            mappings.set_start(mapping, stop)
        mappings.set_stop(left, stop)
        return left
    if right is not None:
        right.anon_vma = right.anon_vma or mapping.anon_vma
        if whole:
            mappings.remove(mapping)
        else:
            mappings.set_stop(mapping, start)
        right.pgoff -= (stop - start) >> PAGE_SHIFT
        mappings.set_start(right, start)
        return right
    return None


def _differ(left: Mapping, right: Mapping) -> bool:
    return left.anon_vma is not None and right.anon_vma is not None and left.anon_vma is not right.anon_vma


def merge_new(
    memory: "Memory",
    start: int,
    stop: int,
    flags: int,
    pgoff: int,
    file: "File | None",
    anon_vma: AnonVma | None = None,
    upwards: bool = True,
) -> Mapping | None:
    """Let the neighbours of a free range grow over it, if they agree; the grown one, or None.

    :param anon_vma: that of the mapping whose copy will lie here (mremap); None for fresh memory.
    :param upwards: whether the mapping above may be merged too; not so for the heap.

    Source: vma_merge_new_range and vma_expand, mm/vma.c.

    >>> from memprot.model.mapping import Mapping
    >>> from memprot.model.memory import Memory
    >>> from memprot.model.merging import merge_new
    >>> memory = Memory()
    >>> memory.mappings.insert(Mapping(0x1000, 0x2000, 0, 1))
    >>> merge_new(memory, 0x2000, 0x5000, flags=0, pgoff=2, file=None)
    Mapping(0x1000-0x5000 ---p)
    """
    mappings = memory.mappings
    right = mappings.find(start)
    left = right.previous if right is not None else mappings.below(start)
    if left is not None and not (
        left.stop == start
        and left.flags == flags
        and left.file is file
        and left.pgoff + ((start - left.start) >> PAGE_SHIFT) == pgoff
        and _compatible(left.anon_vma, anon_vma)
    ):
        left = None
    if right is not None and not (
        upwards
        and right.start == stop
        and right.flags == flags
        and right.file is file
        and pgoff + ((stop - start) >> PAGE_SHIFT) == right.pgoff
        and _compatible(right.anon_vma, anon_vma)
        and not (left is not None and _differ(left, right))
    ):
        right = None
    if left is not None:
        if right is not None:
            left.anon_vma = left.anon_vma or right.anon_vma
            stop = right.stop
            mappings.remove(right)
        left.anon_vma = left.anon_vma or anon_vma
        mappings.set_stop(left, stop)
        return left
    if right is not None:
        right.anon_vma = right.anon_vma or anon_vma
        right.pgoff = pgoff
        mappings.set_start(right, start)
    return right


def prepare_anon_vma(mapping: Mapping) -> None:
    """Tie a mapping to an ``AnonVma`` before its first private page: that of a neighbour which may once merge.

    A neighbour may when it differs in nothing but what mprotect changes.

    Source: __anon_vma_prepare, mm/rmap.c; find_mergeable_anon_vma, mm/vma.c.

    >>> from memprot.model.mapping import Mapping
    >>> from memprot.model.merging import prepare_anon_vma
    >>> mapping = Mapping(0x1000, 0x2000, 0, 1)
    >>> prepare_anon_vma(mapping)
    >>> mapping.anon_vma is None
    False
    """
    if mapping.anon_vma is not None:
        return
    above, below = mapping.next, mapping.previous
    if above is not None and _reusable(above) and _may_share(mapping, above):
        mapping.anon_vma = above.anon_vma
    elif below is not None and _reusable(below) and _may_share(below, mapping):
        mapping.anon_vma = below.anon_vma
    else:
        mapping.anon_vma = AnonVma()


def _reusable(mapping: Mapping) -> bool:
    return mapping.anon_vma is not None and not mapping.anon_vma.inherited


def _may_share(lower: Mapping, upper: Mapping) -> bool:
    return (
        lower.stop == upper.start
        and lower.file is upper.file
        and not (lower.flags ^ upper.flags) & ~VM_ACCESS
        and upper.pgoff == lower.pgoff + ((upper.start - lower.start) >> PAGE_SHIFT)
    )
