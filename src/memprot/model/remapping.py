"""mremap: making mappings longer or shorter, and moving them with their pages."""

from errno import EAGAIN, EFAULT, EINVAL, ENOMEM, EPERM
from typing import TYPE_CHECKING

from memprot.model.access import populate
from memprot.model.bits import (
    PAGE,
    PAGE_SHIFT,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_MAYSHARE,
    VM_SEALED,
    VM_SHARED,
    WORD,
)
from memprot.model.mapping import Mapping
from memprot.model.mapping_calls import remove_range
from memprot.model.merging import merge_new
from memprot.model.placement import place
from memprot.model.refusal import RefusalError
from memprot.reason import Reason

if TYPE_CHECKING:
    from memprot.model.memory import Memory

__all__ = ["remap"]

MAYMOVE, FIXED, DONTUNMAP = 1, 2, 4
_MAP_SHARED, _MAP_FIXED = 0x01, 0x10


def remap(memory: "Memory", address: int, old: int, new: int, flags: int, target: int) -> int:
    """mremap(2): the address where the mapping is now.

    With MREMAP_FIXED and equal lengths a range of several mappings, and holes between them, is moved whole
    (Linux 6.17). Where that fails in the middle, what was moved stays moved.

    Source: do_mremap, mm/mremap.c.

    >>> from memprot.model.mapping_calls import map_pages
    >>> from memprot.model.memory import Memory
    >>> from memprot.model.remapping import remap
    >>> memory = Memory()
    >>> start = map_pages(memory, 0x10000, 4096, prot=3, flags=0x32, file=None, offset=0)
    >>> hex(remap(memory, start, 4096, 8192, flags=0, target=0)), memory.mappings[0].size
    ('0x10000', 8192)
    """
    old = -(-old // PAGE) * PAGE % WORD
    new = -(-new // PAGE) * PAGE % WORD
    _check_arguments(memory, address, old, new, flags, target)
    if flags & FIXED and old == new:
        return _move_all(memory, address, old, flags, target)
    mapping = _check(memory, memory.mappings.at(address), address, old, new, flags)
    locked = mapping.flags & VM_LOCKED
    if flags & (FIXED | DONTUNMAP):
        moved = _move_to(memory, address, old, new, flags, target)
    elif new == old:
        return address
    elif new < old:
        _cut_off(memory, address, old, new)
        return address
    else:
        moved = _expand(memory, mapping, address, old, new, flags)
    if locked and new > old:
        populate(memory, moved + old, moved + new, lenient=True)
    return moved


def _check_arguments(memory: "Memory", address: int, old: int, new: int, flags: int, target: int) -> None:
    if flags & ~(MAYMOVE | FIXED | DONTUNMAP):
        raise RefusalError(EINVAL, Reason.UNKNOWN_FLAGS)
    if address % PAGE:
        raise RefusalError(EINVAL, Reason.MISALIGNED)
    if not new:
        raise RefusalError(EINVAL, Reason.BAD_ARGUMENT)
    if new > memory.end:
        raise RefusalError(EINVAL, Reason.OUTSIDE)
    if not flags & (FIXED | DONTUNMAP):
        return
    if target > memory.end - new:
        raise RefusalError(EINVAL, Reason.OUTSIDE)
    if target % PAGE:
        raise RefusalError(EINVAL, Reason.MISALIGNED)
    if not flags & MAYMOVE:
        raise RefusalError(EINVAL, Reason.BAD_ARGUMENT)
    if flags & DONTUNMAP and old != new:
        raise RefusalError(EINVAL, Reason.BAD_ARGUMENT)
    if (address + old) % WORD > target and target + new > address:
        raise RefusalError(EINVAL, Reason.BAD_ARGUMENT)
    # A move may split what lies at both places, and unmaps only afterwards.
    if len(memory.mappings) + 2 >= memory.limits.max_map_count - 3:
        raise RefusalError(ENOMEM, Reason.MAPPING_LIMIT)


def _check(memory: "Memory", mapping: Mapping | None, address: int, old: int, new: int, flags: int) -> Mapping:
    """Whether the mapping may be changed like that (check_prep_vma)."""
    if mapping is None:
        raise _hole(memory, address, max(address + old, address + PAGE))
    bits = mapping.flags
    if bits & VM_SEALED:
        raise RefusalError(EPERM, Reason.SEALED, mapping.start, mapping.stop)
    if new <= old and not flags & (FIXED | DONTUNMAP):
        return mapping
    # Length 0 stands for a second mapping of the same pages, which only shared memory can have.
    if not old and not bits & (VM_SHARED | VM_MAYSHARE):
        raise RefusalError(EINVAL, Reason.SPECIAL_MAPPING, mapping.start, mapping.stop)
    kept = min(old, new)
    if kept > mapping.stop - address:
        raise _crosses(mapping, address + kept)
    if new == kept:
        return mapping
    pages = (new - old) >> PAGE_SHIFT
    if not memory.usage.may_lock(bits, pages):
        raise RefusalError(EAGAIN, Reason.LOCK_LIMIT)
    _may_expand(memory, bits, pages)
    return mapping


def _hole(memory: "Memory", start: int, stop: int) -> RefusalError:
    above = memory.mappings.find(start)
    return RefusalError(EFAULT, Reason.HOLE, start, stop if above is None else min(stop, above.start))


def _crosses(mapping: Mapping, stop: int) -> RefusalError:
    """The range goes on behind the mapping: into another one, or into a hole."""
    above = mapping.next
    if above is None or above.start > mapping.stop:
        return RefusalError(EFAULT, Reason.HOLE, mapping.stop, stop if above is None else min(stop, above.start))
    return RefusalError(EFAULT, Reason.BAD_ARGUMENT, mapping.stop, stop)


def _may_expand(memory: "Memory", bits: int, pages: int) -> None:
    usage = memory.usage
    if not usage.may_expand(bits, pages):
        raise RefusalError(ENOMEM, usage.which_limit(pages))


def _move_all(memory: "Memory", address: int, length: int, flags: int, target: int) -> int:
    """Move every mapping of a range, keeping the holes between them (remap_move)."""
    start, stop = address, address + length
    mapping = memory.mappings.find(start)
    if mapping is None or mapping.start > start or not length:
        raise _hole(memory, start, max(stop, start + PAGE))
    done = start
    moved = []
    try:
        while mapping is not None and mapping.start < stop and done < stop:
            first = max(mapping.start, done)
            end = min(mapping.stop, stop)
            _check(memory, mapping, first, end - first, end - first, flags)
            _move_to(memory, first, end - first, end - first, flags, target + (first - start))
            moved.append((first, end))
            done = end
            mapping = memory.mappings.find(end)
    except RefusalError as refusal:
        refusal.applied = tuple(moved)
        raise
    return target


def _move_to(memory: "Memory", address: int, old: int, new: int, flags: int, target: int) -> int:
    """Move to an address of the caller's (mremap_to); what is there is unmapped first."""
    if flags & FIXED:
        remove_range(memory, target, target + new)
        if memory.mappings.at(address) is None:
            raise _hole(memory, address, address + PAGE)
    if new < old:
        _cut_off(memory, address, old, new)
        old = new
    mapping = memory.mappings.at(address)
    assert mapping is not None
    if flags & DONTUNMAP:
        _may_expand(memory, mapping.flags, old >> PAGE_SHIFT)
    target = _place(memory, mapping, new, target, bool(flags & FIXED))
    return _move(memory, mapping, address, old, new, target, bool(flags & DONTUNMAP))


def _cut_off(memory: "Memory", address: int, old: int, new: int) -> None:
    """Unmap what a shorter mapping leaves over, which may be any length that was claimed."""
    start, length = address + new, old - new
    if start > memory.end or length > memory.end - start:
        raise RefusalError(EINVAL, Reason.OUTSIDE)
    remove_range(memory, start, start + length)


def _place(memory: "Memory", mapping: Mapping, length: int, target: int, fixed: bool) -> int:
    shared = _MAP_SHARED if mapping.flags & VM_MAYSHARE else 0
    plain = mapping.file is None and not shared
    return place(memory, target, length, shared | (_MAP_FIXED if fixed else 0), plain)


def _expand(memory: "Memory", mapping: Mapping, address: int, old: int, new: int, flags: int) -> int:
    """Grow where it is, if the addresses above are free and the range ends with the mapping; else move."""
    growth = new - old
    if mapping.stop - address == old and _free_above(memory, mapping, growth):
        pages = growth >> PAGE_SHIFT
        if not memory.usage.enough_memory(pages):
            raise RefusalError(ENOMEM, Reason.OVERCOMMIT)
        bits, stop = mapping.flags, mapping.stop
        pgoff = mapping.page_offset(stop)
        merge_new(memory, stop, stop + growth, bits, pgoff, mapping.file, mapping.anon_vma)
        memory.usage.account(bits, pages)
        if bits & VM_LOCKED:
            memory.usage.locked += pages
        return address
    if not flags & MAYMOVE:
        raise RefusalError(ENOMEM, Reason.OCCUPIED, address + old, address + new)
    return _move(memory, mapping, address, old, new, _place(memory, mapping, new, 0, False), False)


def _free_above(memory: "Memory", mapping: Mapping, growth: int) -> bool:
    above = mapping.next
    stop = mapping.stop + growth
    return stop <= memory.end and (above is None or above.start >= stop)


def _move(memory: "Memory", mapping: Mapping, address: int, old: int, new: int, target: int, keep: bool) -> int:
    """Copy the mapping, hang its pages in at the new place, and unmap the old one (move_vma)."""
    if len(memory.mappings) >= memory.limits.max_map_count - 3:
        raise RefusalError(ENOMEM, Reason.MAPPING_LIMIT)
    pages = new >> PAGE_SHIFT
    if not memory.usage.enough_memory(pages if keep else (new - old) >> PAGE_SHIFT):
        raise RefusalError(ENOMEM, Reason.OVERCOMMIT)
    bits, file, anon_vma = mapping.flags, mapping.file, mapping.anon_vma
    pgoff = mapping.page_offset(address)
    if file is None and anon_vma is None:
        # No page counts from the old place yet, so the number may follow, and the copy finds neighbours.
        pgoff = target >> PAGE_SHIFT
    copy = merge_new(memory, target, target + new, bits, pgoff, file, anon_vma)
    if copy is None:
        copy = Mapping(target, target + new, bits, pgoff, file, anon_vma)
        memory.mappings.insert(copy)
    memory.tables.move(address, address + old, target)
    memory.usage.account(bits, pages)
    if bits & VM_LOCKED:
        memory.usage.locked += pages
    if keep:
        _let_go(memory, copy, address, old)
    elif old:
        remove_range(memory, address, address + old)
    return target


def _let_go(memory: "Memory", copy: Mapping, address: int, length: int) -> None:
    """What becomes of the old mapping that stays, without pages, for MREMAP_DONTUNMAP (dontunmap_complete)."""
    rest = memory.mappings.at(address)
    assert rest is not None
    rest.flags &= ~VM_LOCKED_MASK
    if rest is not copy and rest.start == address and rest.stop == address + length:
        rest.anon_vma = None
