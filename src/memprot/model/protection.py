"""mprotect and pkey_mprotect: the order of their checks, and what remains when one of them fails."""

from errno import EACCES, EINVAL, ENOMEM, EPERM
from typing import TYPE_CHECKING

from memprot.model.access import populate_mapping
from memprot.model.bits import (
    PAGE,
    PAGE_SHIFT,
    VM_ACCESS,
    VM_ACCOUNT,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_MAYEXEC,
    VM_NORESERVE,
    VM_PKEY,
    VM_PKEY_SHIFT,
    VM_READ,
    VM_SEALED,
    VM_SHARED,
    VM_WRITE,
    WORD,
)
from memprot.model.merging import modify
from memprot.model.refusal import RefusalError
from memprot.prot import Prot
from memprot.reason import Reason

if TYPE_CHECKING:
    from memprot.model.mapping import Mapping
    from memprot.model.memory import Memory

__all__ = ["protect"]

_GROWSDOWN = int(Prot.GROWSDOWN)
_GROWSUP = int(Prot.GROWSUP)
_GROWS = _GROWSDOWN | _GROWSUP
_VALID = VM_ACCESS | int(Prot.SEM)


def protect(memory: "Memory", address: int, length: int, prot: int, key: int = -1) -> None:
    """mprotect(2), and pkey_mprotect(2) with a key that is not -1.

    :raises RefusalError: with what was ``applied`` before it: mappings are changed one after the other, and those
        before the one that refuses stay changed.

    Source: do_mprotect_pkey, mm/mprotect.c.

    >>> from memprot.model.memory import Memory
    >>> from memprot.model.protection import protect
    >>> protect(Memory(), 0x10000, 0, prot=7)
    """
    grows = prot & _GROWS
    prot &= ~_GROWS
    if grows == _GROWS:
        raise RefusalError(EINVAL, Reason.BOTH_GROWS)
    if address % PAGE:
        raise RefusalError(EINVAL, Reason.MISALIGNED)
    if not length:
        return
    stop = address + (length + PAGE - 1) // PAGE * PAGE
    # A length that is rounded up to 2**64 is 0 in a machine word, so that range is empty; it wraps too.
    if stop >= WORD or length > WORD - PAGE:
        raise RefusalError(ENOMEM, Reason.RANGE_WRAPS)
    if prot & ~_VALID:
        raise RefusalError(EINVAL, Reason.UNKNOWN_FLAGS)
    if key != -1 and not memory.keys.is_allocated(key):
        raise RefusalError(EINVAL, Reason.KEY_NOT_ALLOCATED if memory.keys.number else Reason.NO_KEYS)
    start = address
    mapping = memory.mappings.find(start)
    if mapping is None or mapping.start >= stop:
        raise RefusalError(ENOMEM, Reason.HOLE, start, stop)
    if grows & _GROWSDOWN:
        if not mapping.flags & VM_GROWSDOWN:
            raise RefusalError(EINVAL, Reason.NOT_GROWING, max(mapping.start, start), min(mapping.stop, stop))
        start = mapping.start
    else:
        if mapping.start > start:
            raise RefusalError(ENOMEM, Reason.HOLE, start, mapping.start)
        if grows:
            # No mapping grows up on x86.
            raise RefusalError(EINVAL, Reason.NOT_GROWING, start, min(mapping.stop, stop))
    _apply(memory, mapping, start, stop, prot, key)


def _apply(memory: "Memory", mapping: "Mapping", start: int, stop: int, prot: int, key: int) -> None:
    done = start
    try:
        while True:
            end = mapping.stop if mapping.stop < stop else stop
            changed = _protect_one(memory, mapping, done, end, prot, key)
            done = changed.stop
            if done >= stop:
                return
            following = changed.next
            if following is None or following.start != done:
                hole_stop = stop if following is None else min(stop, following.start)
                raise RefusalError(ENOMEM, Reason.HOLE, done, hole_stop)
            mapping = following
    except RefusalError as refusal:
        if done > start:
            refusal.applied = ((start, done),)
        raise


def _protect_one(memory: "Memory", mapping: "Mapping", start: int, stop: int, prot: int, key: int) -> "Mapping":
    old = mapping.flags
    if prot & VM_READ and memory.read_implies_execute and old & VM_MAYEXEC:
        prot |= VM_EXEC
    new = old & ~(VM_ACCESS | VM_PKEY) | prot & VM_ACCESS
    if memory.keys.number:
        new |= _key(memory, old, prot, key) << VM_PKEY_SHIFT
    # The bits of what may be lie four places above those of what is.
    if new & ~(new >> 4) & VM_ACCESS:
        raise RefusalError(EACCES, _why_never(mapping, new), start, stop)
    if memory.deny_write_execute and new & VM_EXEC and (new & VM_WRITE or not old & VM_EXEC):
        raise RefusalError(EACCES, Reason.DENY_WRITE_EXECUTE, start, stop)
    return _fix_up(memory, mapping, start, stop, new)


def _why_never(mapping: "Mapping", new: int) -> Reason:
    lacking = new & ~(new >> 4) & VM_ACCESS
    if lacking & VM_WRITE:
        sealed = mapping.file is not None and mapping.file.write_sealed
        return Reason.MEMFD_SEAL if sealed else Reason.FILE_READ_ONLY
    return Reason.NOEXEC_MOUNT


def _key(memory: "Memory", old: int, prot: int, key: int) -> int:
    """The key that a mapping gets (__arch_override_mprotect_pkey, arch/x86/mm/pkeys.c)."""
    if key != -1:
        return key
    held = (old & VM_PKEY) >> VM_PKEY_SHIFT
    if prot == VM_EXEC:
        execute_only = memory.keys.execute_only_key(memory.thread)
        if execute_only:
            return execute_only
    elif old & VM_ACCESS == VM_EXEC and held == memory.keys.execute_only:
        return 0
    return held


def _fix_up(memory: "Memory", mapping: "Mapping", start: int, stop: int, new: int) -> "Mapping":
    """Change the flags of a part of one mapping (mprotect_fixup)."""
    old = mapping.flags
    if old & VM_SEALED:
        raise RefusalError(EPERM, Reason.SEALED, start, stop)
    if new == old:
        return mapping
    usage = memory.usage
    pages = (stop - start) >> PAGE_SHIFT
    if new & VM_WRITE:
        # Only what becomes data is measured: a limit that is passed already refuses nothing more.
        if not usage.may_expand(new, pages) and usage.may_expand(old, pages):
            raise RefusalError(ENOMEM, Reason.DATA_LIMIT, start, stop)
        if not old & (VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_NORESERVE):
            if not usage.enough_memory(pages):
                raise RefusalError(ENOMEM, Reason.OVERCOMMIT, start, stop)
            new |= VM_ACCOUNT
    elif old & VM_ACCOUNT and mapping.file is None and mapping.anon_vma is None:
        # Nothing was ever written here, so nothing has to be promised any more.
        new &= ~VM_ACCOUNT
    changed = modify(memory, mapping, start, stop, new)
    usage.account(old, -pages)
    usage.account(new, pages)
    if old & (VM_WRITE | VM_SHARED | VM_LOCKED) == VM_LOCKED and new & VM_WRITE:
        _copy_locked_pages(memory, changed, start, stop)
    return changed


def _copy_locked_pages(memory: "Memory", mapping: "Mapping", start: int, stop: int) -> None:
    """Locked private memory that becomes writable gets its own pages at once; where it cannot, it does not."""
    try:
        populate_mapping(memory, mapping, start, stop)
    except RefusalError:
        return
