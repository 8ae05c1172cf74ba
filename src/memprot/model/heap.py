"""brk: the end of the heap."""

from typing import TYPE_CHECKING

from memprot.model.bits import (
    PAGE,
    PAGE_SHIFT,
    VM_ACCOUNT,
    VM_EXEC,
    VM_MAY_ACCESS,
    VM_READ,
    VM_WRITE,
)
from memprot.model.mapping import Mapping
from memprot.model.mapping_calls import remove_range
from memprot.model.mappings import start_gap
from memprot.model.merging import merge_new
from memprot.model.refusal import RefusalError

if TYPE_CHECKING:
    from memprot.model.memory import Memory

__all__ = ["set_break"]


def set_break(memory: "Memory", address: int) -> int:
    """The system call brk: move the end of the heap, if possible; where it is afterwards. It has no errors.

    Source: sys_brk, mm/mmap.c; do_brk_flags, mm/vma.c.

    >>> from memprot.model.heap import set_break
    >>> from memprot.model.memory import Memory
    >>> memory = Memory(brk=0x10000)
    >>> hex(set_break(memory, 0x12345)), memory.mappings[0]
    ('0x12345', Mapping(0x10000-0x13000 rw-p))
    """
    if address < memory.start_brk or not _within_limit(memory, address):
        return memory.brk
    new = -(-address // PAGE) * PAGE
    old = -(-memory.brk // PAGE) * PAGE
    if new < old:
        moved = _shrink(memory, new, old)
    elif new > old:
        moved = _grow(memory, old, new)
    else:
        moved = True
    if moved:
        memory.brk = address
    return memory.brk


def _within_limit(memory: "Memory", address: int) -> bool:
    limit = memory.limits.data
    return limit is None or address - memory.start_brk <= limit


def _shrink(memory: "Memory", new: int, old: int) -> bool:
    mapping = memory.mappings.find(new)
    if mapping is None or mapping.start >= old:
        return False
    try:
        remove_range(memory, new, old)
    except RefusalError:
        # The caller learns it by a break that has not moved.
        return False
    return True


def _grow(memory: "Memory", old: int, new: int) -> bool:
    pages = (new - old) >> PAGE_SHIFT
    above = memory.mappings.find(old)
    if new > memory.end or (above is not None and new + PAGE > start_gap(above)):
        return False
    bits = VM_READ | VM_WRITE | VM_ACCOUNT | VM_MAY_ACCESS
    if memory.read_implies_execute:
        bits |= VM_EXEC
    usage = memory.usage
    if not usage.may_expand(bits, pages) or len(memory.mappings) > memory.limits.max_map_count:
        return False
    if not usage.enough_memory(pages):
        return False
    pgoff = old >> PAGE_SHIFT
    # What ends where the heap begins is not looked at.
    first = old == memory.start_brk
    if first or merge_new(memory, old, new, bits, pgoff, None, upwards=False) is None:
        memory.mappings.insert(Mapping(old, new, bits, pgoff))
    usage.account(bits, pages)
    return True
