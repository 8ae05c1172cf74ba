"""madvise: advice that drops pages, advice that marks mappings, and guard pages."""

from errno import EACCES, EAGAIN, EINVAL, ENOMEM, EPERM
from typing import TYPE_CHECKING

from memprot.flags import Advice
from memprot.model.access import populate_mapping
from memprot.model.bits import (
    PAGE,
    PAGE_SHIFT,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_HUGEPAGE,
    VM_LOCKED,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_PKEY,
    VM_PKEY_SHIFT,
    VM_RAND_READ,
    VM_READ,
    VM_SEALED,
    VM_SEQ_READ,
    VM_SHARED,
    VM_WIPEONFORK,
    VM_WRITE,
    WORD,
)
from memprot.model.merging import modify, prepare_anon_vma
from memprot.model.page_tables import GUARD
from memprot.model.refusal import RefusalError
from memprot.reason import Reason

if TYPE_CHECKING:
    from memprot.model.mapping import Mapping
    from memprot.model.memory import Memory

__all__ = ["advise"]

_ADVICE = frozenset(int(advice) for advice in Advice)
_PRIVILEGED = {Advice.HWPOISON, Advice.SOFT_OFFLINE}
_POPULATE = {Advice.POPULATE_READ, Advice.POPULATE_WRITE}
# What may take contents away, and so is refused where a sealed mapping could not be written either.
_DISCARDING = frozenset(
    map(
        int,
        (
            Advice.FREE,
            Advice.DONTNEED,
            Advice.DONTNEED_LOCKED,
            Advice.REMOVE,
            Advice.DONTFORK,
            Advice.WIPEONFORK,
            Advice.GUARD_INSTALL,
        ),
    )
)
# What each advice that marks a mapping takes from its bits, and what it adds.
_MARKS: dict[int, tuple[int, int]] = {
    Advice.NORMAL: (VM_RAND_READ | VM_SEQ_READ, 0),
    Advice.SEQUENTIAL: (VM_RAND_READ, VM_SEQ_READ),
    Advice.RANDOM: (VM_SEQ_READ, VM_RAND_READ),
    Advice.DONTFORK: (0, VM_DONTCOPY),
    Advice.DOFORK: (VM_DONTCOPY, 0),
    Advice.WIPEONFORK: (0, VM_WIPEONFORK),
    Advice.KEEPONFORK: (VM_WIPEONFORK, 0),
    Advice.DONTDUMP: (0, VM_DONTDUMP),
    Advice.DODUMP: (VM_DONTDUMP, 0),
    Advice.MERGEABLE: (0, VM_MERGEABLE),
    Advice.UNMERGEABLE: (VM_MERGEABLE, 0),
    Advice.HUGEPAGE: (VM_NOHUGEPAGE, VM_HUGEPAGE),
    Advice.NOHUGEPAGE: (VM_HUGEPAGE, VM_NOHUGEPAGE),
}


def advise(memory: "Memory", address: int, length: int, advice: int) -> None:
    """madvise(2). A hole does not stop it, but makes it fail at the end.

    MADV_COLLAPSE is taken and does nothing.

    Source: do_madvise and madvise_walk_vmas, mm/madvise.c.

    >>> from memprot.model.advice import advise
    >>> from memprot.model.memory import Memory
    >>> advise(Memory(), 0x10000, 0, advice=4)
    """
    if advice not in _ADVICE:
        raise RefusalError(EINVAL, Reason.UNKNOWN_FLAGS)
    if advice in _PRIVILEGED:
        raise RefusalError(EPERM, Reason.NOT_PERMITTED)
    if address % PAGE:
        raise RefusalError(EINVAL, Reason.MISALIGNED)
    stop = address + (length + PAGE - 1) // PAGE * PAGE
    if stop >= WORD:
        raise RefusalError(EINVAL, Reason.RANGE_WRAPS)
    if stop == address:
        return
    if advice in _POPULATE:
        _populate(memory, address, stop, advice)
        return
    _walk(memory, address, stop, advice)


def _walk(memory: "Memory", address: int, stop: int, advice: int) -> None:
    hole: tuple[int, int] | None = None
    applied: list[tuple[int, int]] = []
    start = address
    mapping = memory.mappings.find(start)
    try:
        while start < stop:
            if mapping is None:
                raise RefusalError(ENOMEM, Reason.HOLE, *(hole or (start, stop)))
            if start < mapping.start:
                hole = hole or (start, min(mapping.start, stop))
                start = mapping.start
                if start >= stop:
                    break
            end = min(mapping.stop, stop)
            mapping = _advise_one(memory, mapping, start, end, advice)
            applied.append((start, end))
            start = max(end, mapping.stop)
            mapping = mapping.next
        if hole is not None:
            raise RefusalError(ENOMEM, Reason.HOLE, *hole)
    except RefusalError as refusal:
        refusal.applied = tuple(applied)
        raise


def _advise_one(memory: "Memory", mapping: "Mapping", start: int, stop: int, advice: int) -> "Mapping":
    """One mapping's part (madvise_vma_behavior)."""
    if mapping.flags & VM_SEALED and advice in _DISCARDING and not _could_write(memory, mapping):
        raise RefusalError(EPERM, Reason.SEALED, start, stop)
    mark = _MARKS.get(advice)
    if mark is not None:
        return _mark(memory, mapping, start, stop, advice, mark)
    if advice in (Advice.DONTNEED, Advice.DONTNEED_LOCKED, Advice.FREE):
        _drop(memory, mapping, start, stop, advice)
    elif advice == Advice.GUARD_INSTALL:
        _install_guards(memory, mapping, start, stop)
    elif advice == Advice.GUARD_REMOVE:
        for page in memory.tables.pages(start, stop):
            if memory.tables.get(page) & GUARD:
                memory.tables.set(page, 0)
    elif advice in (Advice.COLD, Advice.PAGEOUT):
        if mapping.flags & VM_LOCKED:
            raise RefusalError(EINVAL, Reason.LOCKED, start, stop)
    elif advice == Advice.REMOVE:
        _punch(memory, mapping, start, stop)
    return mapping


def _could_write(memory: "Memory", mapping: "Mapping") -> bool:
    """Whether the contents could be taken away by writing as well, or are a file's (can_madvise_modify)."""
    flags = mapping.flags
    if mapping.file is not None:
        return True
    key = (flags & VM_PKEY) >> VM_PKEY_SHIFT
    return bool(flags & VM_WRITE) and (not memory.keys.number or memory.thread.allows(key, True))


def _mark(memory: "Memory", mapping: "Mapping", start: int, stop: int, advice: int, mark: tuple[int, int]) -> "Mapping":
    flags = mapping.flags
    if advice == Advice.WIPEONFORK and (mapping.file is not None or flags & VM_SHARED):
        raise RefusalError(EINVAL, Reason.SPECIAL_MAPPING, start, stop)
    if advice in (Advice.KEEPONFORK, Advice.DODUMP) and flags & VM_DROPPABLE:
        raise RefusalError(EINVAL, Reason.SPECIAL_MAPPING, start, stop)
    if advice == Advice.MERGEABLE and flags & (VM_SHARED | VM_MAYSHARE | VM_DROPPABLE):
        return mapping
    new = flags & ~mark[0] | mark[1]
    if new == flags:
        return mapping
    try:
        return modify(memory, mapping, start, stop, new)
    except RefusalError as refusal:
        # madvise tells a shortage by EAGAIN, for ENOMEM means a hole.
        refusal.number = EAGAIN
        raise


def _drop(memory: "Memory", mapping: "Mapping", start: int, stop: int, advice: int) -> None:
    if mapping.flags & VM_LOCKED and advice != Advice.DONTNEED_LOCKED:
        raise RefusalError(EINVAL, Reason.LOCKED, start, stop)
    if advice == Advice.FREE:
        if mapping.file is not None:
            raise RefusalError(EINVAL, Reason.SPECIAL_MAPPING, start, stop)
        # The pages stay until the kernel needs memory.
        return
    memory.tables.clear(start, stop, guards=False)


def _install_guards(memory: "Memory", mapping: "Mapping", start: int, stop: int) -> None:
    """Put a marker in place of each page (madvise_guard_install)."""
    if mapping.flags & VM_LOCKED:
        raise RefusalError(EINVAL, Reason.LOCKED, start, stop)
    if mapping.file is None:
        # The range has page tables now, which a child must get a copy of.
        prepare_anon_vma(mapping)
    for page in range(start >> PAGE_SHIFT, stop >> PAGE_SHIFT):
        memory.tables.set(page, GUARD)


def _punch(memory: "Memory", mapping: "Mapping", start: int, stop: int) -> None:
    if mapping.flags & VM_LOCKED:
        raise RefusalError(EINVAL, Reason.LOCKED, start, stop)
    if mapping.file is None:
        raise RefusalError(EINVAL, Reason.SPECIAL_MAPPING, start, stop)
    if mapping.flags & (VM_SHARED | VM_MAYWRITE) != VM_SHARED | VM_MAYWRITE:
        raise RefusalError(EACCES, Reason.FILE_READ_ONLY, start, stop)
    if mapping.file.write_sealed:
        raise RefusalError(EPERM, Reason.MEMFD_SEAL, start, stop)
    memory.tables.clear(start, stop, guards=False)


def _populate(memory: "Memory", start: int, stop: int, advice: int) -> None:
    """Bring pages in as reads or writes would (madvise_populate)."""
    needed = VM_WRITE if advice == Advice.POPULATE_WRITE else VM_READ
    done = start
    while done < stop:
        mapping = memory.mappings.find(done)
        if mapping is None or mapping.start > done:
            raise RefusalError(ENOMEM, Reason.HOLE, done, stop if mapping is None else min(mapping.start, stop))
        end = min(mapping.stop, stop)
        if not mapping.flags & needed:
            raise RefusalError(EINVAL, Reason.SPECIAL_MAPPING, done, end)
        populate_mapping(memory, mapping, done, end, write=needed == VM_WRITE)
        done = end
