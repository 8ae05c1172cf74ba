"""fork: what a child process gets of its parent's memory."""

from memprot.model.bits import PAGE_SHIFT, VM_DONTCOPY, VM_LOCKED_MASK, VM_MAYSHARE, VM_WIPEONFORK
from memprot.model.keys import Thread
from memprot.model.mapping import AnonVma, Mapping
from memprot.model.memory import Memory
from memprot.model.page_tables import GUARD, INHERITED, OWN

__all__ = ["fork"]

MDWE_NO_INHERIT = 2


def fork(parent: Memory) -> Memory:
    """The memory of a child process: the same mappings, unlocked, and private pages shared until one writes.

    Mappings with MADV_DONTFORK are left out; those with MADV_WIPEONFORK begin empty. The child has one thread,
    with the rights of the parent's that forked.

    Source: dup_mmap, mm/mmap.c; anon_vma_fork, mm/rmap.c.

    >>> from memprot.model.forking import fork
    >>> from memprot.model.mapping_calls import map_pages
    >>> from memprot.model.memory import Memory
    >>> parent = Memory()
    >>> _ = map_pages(parent, 0x10000, 4096, prot=3, flags=0x32, file=None, offset=0)
    >>> fork(parent).mappings[0]
    Mapping(0x10000-0x11000 rw-p)
    """
    child = Memory(parent.limits, parent.levels, parent.keys.number, parent.start_brk, parent.mmap_base)
    child.brk = parent.brk
    child.keys = parent.keys.copy()
    child.thread = Thread(parent.thread)
    child.persona = parent.persona
    child.deny_write_execute = 0 if parent.deny_write_execute & MDWE_NO_INHERIT else parent.deny_write_execute
    for mapping in parent.mappings:
        if not mapping.flags & VM_DONTCOPY:
            _copy(parent, child, mapping)
    return child


def _copy(parent: Memory, child: Memory, mapping: Mapping) -> None:
    copy = Mapping(mapping.start, mapping.stop, mapping.flags & ~VM_LOCKED_MASK, mapping.pgoff, mapping.file, None)
    child.mappings.insert(copy)
    child.usage.account(copy.flags, copy.size >> PAGE_SHIFT)
    if mapping.file is not None:
        mapping.file.mapped_by(child)
    if mapping.flags & VM_WIPEONFORK:
        return
    if mapping.anon_vma is not None:
        copy.anon_vma = AnonVma(inherited=True)
    for page in parent.tables.pages(mapping.start, mapping.stop):
        bits = parent.tables.get(page)
        # The pages of files are not copied where no private ones are: they come in again. Guard markers are.
        if mapping.anon_vma is None and not bits & GUARD:
            continue
        if bits & OWN and not mapping.flags & VM_MAYSHARE:
            bits |= INHERITED
            parent.tables.set(page, bits)
        child.tables.set(page, bits)
