"""mlock, munlock and mseal: holding pages in memory, and holding mappings as they are."""

from errno import EINVAL, ENOMEM, EPERM
from typing import TYPE_CHECKING

from memprot.model.access import populate
from memprot.model.bits import (
    PAGE,
    PAGE_SHIFT,
    VM_DROPPABLE,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_LOCKONFAULT,
    VM_SEALED,
    WORD,
)
from memprot.model.merging import modify
from memprot.model.refusal import RefusalError
from memprot.reason import Reason

if TYPE_CHECKING:
    from memprot.model.mapping import Mapping
    from memprot.model.memory import Memory

__all__ = ["lock", "seal", "unlock"]

_MLOCK_ONFAULT = 1


def _whole_pages(address: int, length: int) -> tuple[int, int]:
    """The pages of a range; a length near 2**64 wraps to none, as it does in the kernel."""
    offset = address % PAGE
    return address - offset, -(-(length + offset) % WORD // PAGE) * PAGE % WORD


def lock(memory: "Memory", address: int, length: int, flags: int = 0) -> None:
    """mlock(2) and mlock2(2).

    Mappings are marked first, one after the other up to a hole; then the pages are brought in. A page that
    cannot be (PROT_NONE, a guard page) makes the call fail, and its mapping stays marked.

    Source: do_mlock and apply_vma_lock_flags, mm/mlock.c.

    >>> from memprot.model.locking import lock
    >>> from memprot.model.memory import Memory
    >>> lock(Memory(), 0x10000, 0)
    """
    if flags & ~_MLOCK_ONFAULT:
        raise RefusalError(EINVAL, Reason.UNKNOWN_FLAGS)
    limit = memory.limits.memlock
    if limit == 0:
        raise RefusalError(EPERM, Reason.LOCK_LIMIT)
    start, length = _whole_pages(address, length)
    if limit is not None:
        pages = (length >> PAGE_SHIFT) + memory.usage.locked
        if pages > limit // PAGE:
            pages -= _locked_pages(memory, start, start + length)
        if pages > limit // PAGE:
            raise RefusalError(ENOMEM, Reason.LOCK_LIMIT)
    _mark(memory, start, length, VM_LOCKED | (VM_LOCKONFAULT if flags else 0))
    try:
        populate(memory, start, start + length)
    except RefusalError as refusal:
        # EFAULT, which POSIX does not know for mlock.
        refusal.number = ENOMEM
        refusal.applied = ((start, start + length),)
        raise


def unlock(memory: "Memory", address: int, length: int) -> None:
    """munlock(2).

    Source: mm/mlock.c.

    >>> from memprot.model.locking import unlock
    >>> from memprot.model.memory import Memory
    >>> unlock(Memory(), 0x10000, 0)
    """
    start, length = _whole_pages(address, length)
    _mark(memory, start, length, 0)


def _locked_pages(memory: "Memory", start: int, stop: int) -> int:
    pages = 0
    mapping = memory.mappings.find(start)
    while mapping is not None and mapping.start < stop:
        if mapping.flags & VM_LOCKED:
            pages += (min(mapping.stop, stop) - max(mapping.start, start)) >> PAGE_SHIFT
        mapping = mapping.next
    return pages


def _mark(memory: "Memory", start: int, length: int, bits: int) -> None:
    stop = start + length
    if stop >= WORD:
        raise RefusalError(EINVAL, Reason.RANGE_WRAPS)
    if stop == start:
        return
    done = start
    mapping = memory.mappings.find(start)
    try:
        while mapping is not None and mapping.start <= done:
            mapping = _mark_one(memory, mapping, done, min(mapping.stop, stop), bits)
            done = mapping.stop
            if done >= stop:
                return
            mapping = mapping.next
        raise RefusalError(ENOMEM, Reason.HOLE, done, stop if mapping is None else min(mapping.start, stop))
    except RefusalError as refusal:
        if done > start:
            refusal.applied = ((start, done),)
        raise


def _mark_one(memory: "Memory", mapping: "Mapping", start: int, stop: int, bits: int) -> "Mapping":
    old = mapping.flags
    new = old & ~VM_LOCKED_MASK | bits
    if new == old or old & VM_DROPPABLE:
        return mapping
    changed = modify(memory, mapping, start, stop, new)
    pages = (stop - start) >> PAGE_SHIFT
    if not new & VM_LOCKED:
        memory.usage.locked -= pages
    elif not old & VM_LOCKED:
        memory.usage.locked += pages
    return changed


def seal(memory: "Memory", address: int, length: int, flags: int) -> None:
    """mseal(2): from now on nothing changes these mappings. A hole refuses all of it.

    Source: do_mseal, mm/mseal.c.

    >>> from memprot.model.locking import seal
    >>> from memprot.model.memory import Memory
    >>> seal(Memory(), 0x10000, 0, flags=0)
    """
    if flags:
        raise RefusalError(EINVAL, Reason.UNKNOWN_FLAGS)
    if address % PAGE:
        raise RefusalError(EINVAL, Reason.MISALIGNED)
    stop = address + (length + PAGE - 1) // PAGE * PAGE
    if stop >= WORD:
        raise RefusalError(EINVAL, Reason.RANGE_WRAPS)
    if stop == address:
        return
    _refuse_holes(memory, address, stop)
    mapping = memory.mappings.at(address)
    done = address
    while mapping is not None and done < stop:
        if not mapping.flags & VM_SEALED:
            mapping = modify(memory, mapping, done, min(mapping.stop, stop), mapping.flags | VM_SEALED)
        done = mapping.stop
        mapping = mapping.next


def _refuse_holes(memory: "Memory", start: int, stop: int) -> None:
    mapping = memory.mappings.find(start)
    while mapping is not None and mapping.start <= start:
        if mapping.stop >= stop:
            return
        start = mapping.stop
        mapping = mapping.next
    raise RefusalError(ENOMEM, Reason.HOLE, start, stop if mapping is None else min(stop, mapping.start))
