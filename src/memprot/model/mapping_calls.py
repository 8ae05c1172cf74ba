"""mmap and munmap: making mappings and taking them away."""

from errno import EACCES, EAGAIN, EBADF, EEXIST, EINVAL, ENOMEM, EOPNOTSUPP, EOVERFLOW, EPERM
from typing import TYPE_CHECKING

from memprot.flags import MAP_TYPE, MapFlag
from memprot.model.access import populate
from memprot.model.bits import (
    PAGE,
    PAGE_SHIFT,
    VM_ACCESS,
    VM_ACCOUNT,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_MAY_ACCESS,
    VM_MAYEXEC,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_PKEY_SHIFT,
    VM_READ,
    VM_SEALED,
    VM_SHARED,
    VM_SYNC,
    VM_WIPEONFORK,
    VM_WRITE,
    WORD,
)
from memprot.model.file import File
from memprot.model.mapping import Mapping
from memprot.model.merging import merge_new, split
from memprot.model.placement import place, wanted
from memprot.model.refusal import RefusalError
from memprot.reason import Reason

if TYPE_CHECKING:
    from memprot.model.memory import Memory

__all__ = ["map_pages", "remove_range", "unmap"]

# The flags as plain numbers: the arithmetic of an IntFlag is slow.
_SHARED, _PRIVATE, _SHARED_VALIDATE, _DROPPABLE = 1, 2, 3, 8
_FIXED = int(MapFlag.FIXED)
_ANONYMOUS = int(MapFlag.ANONYMOUS)
_LOCKED = int(MapFlag.LOCKED)
_NORESERVE = int(MapFlag.NORESERVE)
_HUGETLB = int(MapFlag.HUGETLB)
_NOREPLACE = int(MapFlag.FIXED_NOREPLACE)
_POPULATE = int(MapFlag.POPULATE)
_NONBLOCK = int(MapFlag.NONBLOCK)
_SYNC = int(MapFlag.SYNC)
# Flags of x86 alone, which the names of another machine lack.
_MAP_32BIT, _ABOVE4G = 0x40, 0x80
# What may be passed without MAP_SHARED_VALIDATE finding it unknown (LEGACY_MAP_MASK); not FIXED_NOREPLACE.
_LEGACY = int(
    MapFlag.SHARED_VALIDATE
    | MapFlag.FIXED
    | MapFlag.ANONYMOUS
    | MapFlag.DENYWRITE
    | MapFlag.EXECUTABLE
    | MapFlag.GROWSDOWN
    | MapFlag.LOCKED
    | MapFlag.NORESERVE
    | MapFlag.POPULATE
    | MapFlag.NONBLOCK
    | MapFlag.STACK
    | MapFlag.HUGETLB
    | MapFlag.HUGE_2MB
    | MapFlag.HUGE_1GB
    | _MAP_32BIT
    | _ABOVE4G
)
_FLAG_BITS = (
    (int(MapFlag.GROWSDOWN), VM_GROWSDOWN),
    (_LOCKED, VM_LOCKED),
    (_SYNC, VM_SYNC),
    (int(MapFlag.STACK), VM_NOHUGEPAGE),
)


def map_pages(
    memory: "Memory", address: int, length: int, prot: int, flags: int, file: File | None, offset: int
) -> int:
    """mmap(2): the address of the new mapping.

    :raises RefusalError: in the order in which the kernel checks.

    Source: ksys_mmap_pgoff and do_mmap, mm/mmap.c; __mmap_region, mm/vma.c.

    >>> from memprot.model.mapping_calls import map_pages
    >>> from memprot.model.memory import Memory
    >>> hex(map_pages(Memory(), 0x10000, 4096, prot=1, flags=0x32, file=None, offset=0))
    '0x10000'
    """
    if offset % PAGE:
        raise RefusalError(EINVAL, Reason.MISALIGNED)
    if flags & _ANONYMOUS:
        file = None
    elif file is None:
        raise RefusalError(EBADF, Reason.BAD_DESCRIPTOR)
    if flags & _HUGETLB:
        raise RefusalError(ENOMEM if flags & _ANONYMOUS else EINVAL, Reason.SPECIAL_MAPPING)
    if not length:
        raise RefusalError(EINVAL, Reason.BAD_ARGUMENT)
    if prot & VM_READ and memory.read_implies_execute and (file is None or file.executable):
        prot |= VM_EXEC
    if flags & _NOREPLACE:
        flags |= _FIXED
    if not flags & _FIXED:
        address = wanted(memory, address)
    length = -(-length // PAGE) * PAGE
    if length >= WORD:
        raise RefusalError(ENOMEM, Reason.RANGE_WRAPS)
    if len(memory.mappings) > memory.limits.max_map_count:
        raise RefusalError(ENOMEM, Reason.MAPPING_LIMIT)
    key = memory.keys.execute_only_key(memory.thread) if prot == VM_EXEC else 0
    bits = prot & VM_ACCESS | key << VM_PKEY_SHIFT | VM_MAY_ACCESS
    for flag, bit in _FLAG_BITS:
        if flags & flag:
            bits |= bit
    plain = file is None and not flags & _SHARED
    address = place(memory, address, length, flags, plain)
    stop = address + length
    if flags & _NOREPLACE:
        there = memory.mappings.find(address)
        if there is not None and there.start < stop:
            raise RefusalError(EEXIST, Reason.OCCUPIED, max(there.start, address), min(there.stop, stop))
    pages = length >> PAGE_SHIFT
    if flags & _LOCKED and memory.limits.memlock == 0:
        raise RefusalError(EPERM, Reason.LOCK_LIMIT)
    if not memory.usage.may_lock(bits, pages):
        raise RefusalError(EAGAIN, Reason.LOCK_LIMIT)
    if file is None:
        bits, pgoff = _without_file(bits, address, flags)
    else:
        bits, pgoff = _with_file(bits, file, prot, flags, offset, length), offset >> PAGE_SHIFT
    if flags & _NORESERVE:
        bits |= VM_NORESERVE
    _region(memory, address, stop, bits, pgoff, file)
    if bits & VM_LOCKED or flags & (_POPULATE | _NONBLOCK) == _POPULATE:
        populate(memory, address, stop, lenient=True)
    return address


def _without_file(bits: int, address: int, flags: int) -> tuple[int, int]:
    kind = flags & MAP_TYPE
    if kind == _PRIVATE:
        return bits, address >> PAGE_SHIFT
    if kind == _SHARED:
        if bits & VM_GROWSDOWN:
            raise RefusalError(EINVAL, Reason.BAD_ARGUMENT)
        return bits | VM_SHARED | VM_MAYSHARE, 0
    if kind == _DROPPABLE:
        if flags & (_LOCKED | _HUGETLB) or bits & VM_GROWSDOWN:
            raise RefusalError(EINVAL, Reason.BAD_ARGUMENT)
        return bits | VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP, address >> PAGE_SHIFT
    raise RefusalError(EINVAL, Reason.UNKNOWN_FLAGS)


def _with_file(bits: int, file: File, prot: int, flags: int, offset: int, length: int) -> int:
    if offset + length > 2**63 - 1:
        raise RefusalError(EOVERFLOW, Reason.BAD_ARGUMENT)
    kind = flags & MAP_TYPE
    if kind in (_SHARED, _SHARED_VALIDATE):
        if kind == _SHARED_VALIDATE and flags & ~_LEGACY:
            raise RefusalError(EOPNOTSUPP, Reason.UNKNOWN_FLAGS)
        if prot & VM_WRITE and not file.writable:
            raise RefusalError(EACCES, Reason.FILE_READ_ONLY)
        bits |= VM_SHARED | VM_MAYSHARE
        if not file.writable:
            bits &= ~(VM_MAYWRITE | VM_SHARED)
    elif kind != _PRIVATE:
        raise RefusalError(EINVAL, Reason.UNKNOWN_FLAGS)
    if not file.readable:
        raise RefusalError(EACCES, Reason.FILE_NOT_READABLE)
    if not file.executable:
        if bits & VM_EXEC:
            raise RefusalError(EPERM, Reason.NOEXEC_MOUNT)
        bits &= ~VM_MAYEXEC
    if bits & VM_GROWSDOWN:
        raise RefusalError(EINVAL, Reason.BAD_ARGUMENT)
    if file.write_sealed and bits & VM_SHARED:
        if bits & VM_WRITE:
            raise RefusalError(EPERM, Reason.MEMFD_SEAL)
        bits &= ~VM_MAYWRITE
    return bits


def _region(memory: "Memory", start: int, stop: int, bits: int, pgoff: int, file: File | None) -> None:
    """Put the mapping there, in place of what was (__mmap_region)."""
    if memory.deny_write_execute and bits & VM_EXEC and bits & VM_WRITE:
        raise RefusalError(EACCES, Reason.DENY_WRITE_EXECUTE)
    usage = memory.usage
    pages = (stop - start) >> PAGE_SHIFT
    old = _gather(memory, start, stop)
    released = sum(mapping.size for mapping in old) >> PAGE_SHIFT
    if not usage.may_expand(bits, pages - released):
        raise RefusalError(ENOMEM, usage.which_limit(pages - released))
    if bits & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE:
        promised = sum(mapping.size for mapping in old if mapping.flags & VM_ACCOUNT) >> PAGE_SHIFT
        if not usage.enough_memory(pages - promised):
            raise RefusalError(ENOMEM, Reason.OVERCOMMIT)
        bits |= VM_ACCOUNT
    if old:
        _detach(memory, old, start, stop)
    if merge_new(memory, start, stop, bits, pgoff, file) is None:
        if file is None and bits & VM_SHARED:
            file = File("/dev/zero (deleted)", stop - start, (0, 1))
        if file is not None:
            file.mapped_by(memory)
        memory.mappings.insert(Mapping(start, stop, bits, pgoff, file))
    usage.account(bits, pages)
    if bits & VM_LOCKED:
        usage.locked += pages


def unmap(memory: "Memory", address: int, length: int) -> None:
    """munmap(2). Where nothing is mapped, nothing is to do; a sealed mapping anywhere in the range refuses all.

    Source: do_vmi_munmap, mm/vma.c.

    >>> from memprot.model.mapping_calls import map_pages, unmap
    >>> from memprot.model.memory import Memory
    >>> memory = Memory()
    >>> _ = map_pages(memory, 0x10000, 3 * 4096, prot=0, flags=0x32, file=None, offset=0)
    >>> unmap(memory, 0x11000, 4096)
    >>> list(memory.mappings)
    [Mapping(0x10000-0x11000 ---p), Mapping(0x12000-0x13000 ---p)]
    """
    if address % PAGE:
        raise RefusalError(EINVAL, Reason.MISALIGNED)
    if address > memory.end or length > memory.end - address:
        raise RefusalError(EINVAL, Reason.RANGE_WRAPS if address + length > WORD else Reason.OUTSIDE)
    if not length:
        raise RefusalError(EINVAL, Reason.BAD_ARGUMENT)
    remove_range(memory, address, address + -(-length // PAGE) * PAGE)


def remove_range(memory: "Memory", start: int, stop: int) -> None:
    """Unmap whole pages, whatever is there.

    A mapping that is cut in the middle needs one more, and so cannot be at the limit. Where a sealed mapping
    refuses, the first mapping of the range may have been split already, and stays so.

    Source: do_vmi_align_munmap and vms_gather_munmap_vmas, mm/vma.c.

    >>> from memprot.model.mapping_calls import remove_range
    >>> from memprot.model.memory import Memory
    >>> remove_range(Memory(), 0x10000, 0x20000)
    """
    old = _gather(memory, start, stop)
    if old:
        _detach(memory, old, start, stop)


def _gather(memory: "Memory", start: int, stop: int) -> list[Mapping]:
    """The mappings of a range, split at its ends; refuses sealed ones."""
    mapping = memory.mappings.find(start)
    if mapping is None or mapping.start >= stop:
        return []
    if start > mapping.start:
        if stop < mapping.stop and len(memory.mappings) >= memory.limits.max_map_count:
            raise RefusalError(ENOMEM, Reason.MAPPING_LIMIT, mapping.start, mapping.stop)
        if mapping.flags & VM_SEALED:
            raise RefusalError(EPERM, Reason.SEALED, start, min(mapping.stop, stop))
        split(memory, mapping, start, limited=False)
    found = []
    following: Mapping | None = mapping
    while following is not None and following.start < stop:
        if following.flags & VM_SEALED:
            raise RefusalError(EPERM, Reason.SEALED, following.start, min(following.stop, stop))
        if following.stop > stop:
            following = split(memory, following, stop, limited=False)
        found.append(following)
        following = following.next
    return found


def _detach(memory: "Memory", old: list[Mapping], start: int, stop: int) -> None:
    memory.tables.clear(start, stop, guards=True)
    for mapping in old:
        pages = mapping.size >> PAGE_SHIFT
        memory.usage.account(mapping.flags, -pages)
        if mapping.flags & VM_LOCKED:
            memory.usage.locked -= pages
        memory.mappings.remove(mapping)
