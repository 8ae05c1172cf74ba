"""Why memory could not be mapped, unmapped or moved: mmap, munmap, mremap, brk."""

import errno
import resource

import memprot._native as _native
from memprot._native import Mapping
from memprot.diagnosis.files import mapped_file_cause
from memprot.diagnosis.limits import address_space_limit, data_limit, lock_limit, mapping_limit, overcommit
from memprot.diagnosis.place import amount, named, span
from memprot.diagnosis.process import Process, max_map_count
from memprot.diagnosis.range import beyond_the_last, first_hole, misaligned, wraps
from memprot.diagnosis.refusal import Refusal
from memprot.diagnosis.unseen import out_of_memory, refused_by_policy
from memprot.diagnosis.walk import sealed
from memprot.flags import MAP_TYPE, MapFlag
from memprot.prot import PAGE_SIZE, Prot
from memprot.reason import Reason

__all__ = ["brk_cause", "first_sealed", "mmap_cause", "mremap_cause", "munmap_cause", "sbrk_cause"]

_WORD = 2**64 - 1
_SLACK = 8
_FIXED = MapFlag.FIXED | MapFlag.FIXED_NOREPLACE
_MAYMOVE, _REMAP_FIXED, _DONTUNMAP = 1, 2, 4
# mremap makes sure that it can undo what it began: mm/mremap.c.
_REMAP_MARGIN = 6


def _up(length: int) -> int:
    return -(-length // PAGE_SIZE) * PAGE_SIZE


def _bad(number: int, said: str, hint: str) -> Refusal:
    return Refusal(number, Reason.BAD_ARGUMENT, said, hint)


def _no_length(number: int) -> Refusal:
    return _bad(number, "the length is 0", "ask for at least one byte")


def _outside(number: int, start: int, length: int) -> Refusal:
    return Refusal(
        number,
        Reason.OUTSIDE,
        f"{amount(length)} from {start:#x} on end beyond the addresses a program can have",
        "check the address and the length",
        start,
        min(start + length, _WORD),
    )


def _ends_outside(start: int, length: int) -> bool:
    return length > 0 and beyond_the_last(start + _up(length) - 1)


def first_sealed(process: Process, start: int, stop: int) -> Refusal | None:
    """The first sealed mapping in a range.

    >>> from memprot.diagnosis.placing import first_sealed
    >>> from memprot.diagnosis.process import Process
    >>> first_sealed(Process(), 0, 4096)
    """
    at = start
    while at < stop and (mapping := process.next_mapping(at)) is not None and mapping.start < stop:
        if process.is_sealed(mapping):
            return sealed(mapping, max(mapping.start, start), min(mapping.stop, stop))
        at = mapping.stop
    return None


def mmap_cause(number: int, address: int, length: int, prot: int, flags: int, fd: int, offset: int) -> Refusal | None:
    """The cause of a failed mmap.

    Source: mmap(2), do_mmap in mm/mmap.c, mmap_region in mm/vma.c.

    >>> import errno
    >>> from memprot.diagnosis.placing import mmap_cause
    >>> mmap_cause(errno.EINVAL, 0, 0, 1, 0x22, -1, 0).explanation
    'the length is 0'
    """
    address, length, prot, flags, offset = (word & _WORD for word in (address, length, prot, flags, offset))
    process = Process()
    if number == errno.EINVAL:
        return _mmap_arguments(number, address, length, flags, offset)
    if number == errno.EEXIST:
        there = process.next_mapping(address)
        if there is None:
            return None
        start, stop = max(there.start, address), min(there.stop, address + _up(length))
        return Refusal(
            number,
            Reason.OCCUPIED,
            f"{named(there)} is there already, and FIXED_NOREPLACE leaves it alone",
            "choose another address, or 0 to leave it to the kernel",
            start,
            stop,
            there,
        )
    if number == errno.EAGAIN:
        return lock_limit(process, _up(length), number)
    if number == errno.ENOMEM:
        return _no_room(process, address, length, prot, flags)
    if number == errno.EPERM and flags & _FIXED:
        refusal = first_sealed(process, address, address + _up(length))
        if refusal is not None:
            return refusal
        lowest = process.setting("vm/mmap_min_addr")
        if address < lowest:
            return Refusal(
                number,
                Reason.NOT_PERMITTED,
                f"addresses below {lowest:#x} (vm.mmap_min_addr) are kept free",
                "choose a higher address, or run with CAP_SYS_RAWIO",
                address,
                min(lowest, address + _up(length)),
            )
    if number == errno.EPERM and flags & MapFlag.LOCKED and process.limit(resource.RLIMIT_MEMLOCK) == 0:
        return lock_limit(process, _up(length), number)
    if not flags & MapFlag.ANONYMOUS:
        refusal = mapped_file_cause(number, fd, prot, flags)
        if refusal is not None:
            return refusal
    implied = bool(prot & Prot.READ) and not prot & Prot.EXEC and process.reads_imply_execute()
    executable = bool(prot & Prot.EXEC) or implied
    if number == errno.EACCES and prot & Prot.WRITE and executable and process.denies_write_execute():
        why = " (readable memory becomes executable here: READ_IMPLIES_EXEC, personality(2))" if implied else ""
        return Refusal(
            number,
            Reason.DENY_WRITE_EXECUTE,
            f"the memory would be writable and executable at once{why}, and the process has denied itself that "
            "(PR_SET_MDWE)",
            "map it writable or executable, not both; two mappings of one memfd can have one each",
        )
    if number in (errno.EACCES, errno.EPERM):
        return refused_by_policy(process, number, "nothing that mmap checks itself stands in the way")
    return None


def _mmap_arguments(number: int, address: int, length: int, flags: int, offset: int) -> Refusal | None:
    if offset % PAGE_SIZE:
        return misaligned(offset, "offset")
    if length == 0:
        return _no_length(number)
    if flags & MAP_TYPE not in (MapFlag.SHARED, MapFlag.PRIVATE, MapFlag.SHARED_VALIDATE, MapFlag.DROPPABLE):
        return Refusal(
            number,
            Reason.UNKNOWN_FLAGS,
            f"the flags {flags:#x} do not say how the memory is shared",
            "add one of MapFlag.SHARED, MapFlag.PRIVATE and MapFlag.SHARED_VALIDATE",
        )
    if flags & _FIXED and address % PAGE_SIZE:
        return misaligned(address)
    if flags & MapFlag.HUGETLB:
        return Refusal(
            number,
            Reason.NOT_SUPPORTED,
            f"huge pages of the size that the flags {flags:#x} ask for cannot be had here",
            "see /sys/kernel/mm/hugepages for the sizes this kernel has",
        )
    if flags & MapFlag.GROWSDOWN and (not flags & MapFlag.ANONYMOUS or flags & MAP_TYPE != MapFlag.PRIVATE):
        return _bad(number, "only private memory without a file can grow down", "leave GROWSDOWN out")
    if flags & MAP_TYPE == MapFlag.DROPPABLE and not flags & MapFlag.ANONYMOUS:
        return _bad(number, "only memory without a file can be droppable", "use MapFlag.PRIVATE")
    return None


def _no_room(process: Process, address: int, length: int, prot: int, flags: int) -> Refusal | None:
    size = _up(length)
    if size > _WORD:
        return wraps(address, length)
    if _ends_outside(address if flags & _FIXED else 0, length):
        return _outside(errno.ENOMEM, address if flags & _FIXED else 0, length)
    private = flags & MAP_TYPE == MapFlag.PRIVATE
    refusal = address_space_limit(process, size)
    if refusal is None and private and prot & Prot.WRITE:
        refusal = data_limit(process, size)
    promised = prot & Prot.WRITE if private else flags & MapFlag.ANONYMOUS
    if refusal is None and promised:
        refusal = overcommit(size, reserved=not flags & MapFlag.NORESERVE)
    if refusal is not None:
        return refusal
    if flags & MapFlag.HUGETLB:
        return out_of_memory("the pool of huge pages is used up (HugePages_Free in /proc/meminfo)")
    if (count := process.mapping_count()) >= max_map_count() - _SLACK:
        return mapping_limit(count, 1)
    if size >= 1 << 40:
        return _bad(errno.ENOMEM, f"no gap between the mappings has {amount(size)}", "ask for less, or unmap something")
    return out_of_memory("limits leave room for it")


def munmap_cause(number: int, address: int, length: int) -> Refusal | None:
    """The cause of a failed munmap.

    Source: munmap(2), do_vmi_munmap in mm/vma.c.

    >>> import errno
    >>> from memprot.diagnosis.placing import munmap_cause
    >>> munmap_cause(errno.EINVAL, 1, 4096).reason
    <Reason.MISALIGNED: 'misaligned'>
    """
    address, length = address & _WORD, length & _WORD
    process = Process()
    if number == errno.EINVAL:
        if address % PAGE_SIZE:
            return misaligned(address)
        if length == 0:
            return _no_length(number)
        if address + _up(length) > _WORD:
            return wraps(address, length, number)
        if _ends_outside(address, length):
            return _outside(number, address, length)
        mapping = process.next_mapping(address)
        return None if mapping is None else _special(number, mapping, "be cut there: its pages are larger")
    if number == errno.EPERM:
        refusal = first_sealed(process, address, address + _up(length))
        return refusal or refused_by_policy(process, number, "nothing in the range is sealed")
    if number != errno.ENOMEM:
        return None
    mapping = process.next_mapping(address)
    count = process.mapping_count()
    in_the_middle = mapping is not None and mapping.start < address and mapping.stop > address + _up(length)
    if in_the_middle and count >= max_map_count() - _SLACK:
        return mapping_limit(count, 1, mapping)._replace(start=address, stop=address + _up(length))
    return out_of_memory("the number of mappings leaves room to split one")


def _special(number: int, mapping: Mapping, what: str) -> Refusal | None:
    return Refusal(
        number,
        Reason.SPECIAL_MAPPING,
        f"{named(mapping)} cannot {what}",
        "leave it as it is",
        mapping.start,
        mapping.stop,
        mapping,
    )


def mremap_cause(
    number: int, address: int, old: int, new: int, flags: int = 0, new_address: int | None = None
) -> Refusal | None:
    """The cause of a failed mremap.

    Source: mremap(2), mm/mremap.c.

    >>> import errno
    >>> from memprot.diagnosis.placing import mremap_cause
    >>> mremap_cause(errno.EFAULT, 0, 4096, 4096).reason
    <Reason.HOLE: 'hole'>
    """
    address, old, new, flags = (word & _WORD for word in (address, old, new, flags))
    process = Process()
    stop = address + max(_up(old), PAGE_SIZE)
    mapping = process.next_mapping(address)
    if number == errno.EINVAL:
        return _mremap_arguments(number, address, old, new, flags, new_address)
    if number == errno.EPERM:
        refusal = first_sealed(process, address, stop)
        if refusal is None and new_address is not None and flags & _REMAP_FIXED:
            refusal = first_sealed(process, new_address & _WORD, (new_address & _WORD) + _up(new))
        return refusal or refused_by_policy(process, number, "nothing in the range is sealed")
    if number == errno.EFAULT:
        hole = first_hole(process, address, stop)
        if hole is not None:
            return Refusal(
                number,
                Reason.OUTSIDE if beyond_the_last(hole[0]) else Reason.HOLE,
                f"nothing is mapped at {span(*hole)}",
                "map it first, or leave it out; memprot.AddressSpace lists what is mapped",
                *hole,
            )
        if mapping is not None and mapping.stop < stop:
            said = f"{span(address, stop)} goes beyond {named(mapping)}, and a move takes one mapping at a time"
            return _bad(number, said, "move each mapping by itself")._replace(
                start=mapping.stop, stop=stop, mapping=mapping
            )
        return None if mapping is None else _special(number, mapping, "grow or move")
    if number == errno.EAGAIN:
        return lock_limit(process, _up(new) - _up(old), number)
    if number != errno.ENOMEM:
        return None
    return _no_room_to_move(process, address, old, new, flags)


def _mremap_arguments(
    number: int, address: int, old: int, new: int, flags: int, new_address: int | None
) -> Refusal | None:
    if unknown := flags & ~(_MAYMOVE | _REMAP_FIXED | _DONTUNMAP):
        return Refusal(
            number, Reason.UNKNOWN_FLAGS, f"mremap knows no flags {unknown:#x}", "use memprot.calls.RemapFlag"
        )
    if flags & (_REMAP_FIXED | _DONTUNMAP) and not flags & _MAYMOVE:
        return _bad(number, "FIXED and DONTUNMAP move memory, and MAYMOVE is missing", "add RemapFlag.MAYMOVE")
    if address % PAGE_SIZE:
        return misaligned(address)
    if new == 0 or _up(new) > _WORD:
        return _no_length(number) if new == 0 else wraps(address, new, number)
    if flags & _DONTUNMAP and _up(old) != _up(new):
        return _bad(number, "DONTUNMAP moves memory without resizing it, and the sizes differ", "give the same size")
    target = None if new_address is None or not flags & (_REMAP_FIXED | _DONTUNMAP) else new_address & _WORD
    if target is not None:
        if target % PAGE_SIZE:
            return misaligned(target, "new address")
        if _ends_outside(target, new):
            return _outside(number, target, new)
        if target < address + _up(old) and address < target + _up(new):
            return _bad(number, f"the old range and the new one at {target:#x} overlap", "choose another new address")
    if _ends_outside(0, new):
        return _outside(number, 0, new)
    if old == 0:
        return _bad(number, "only shared memory can be mapped a second time (old size 0)", "give the old size")
    mapping = Process().next_mapping(address)
    if mapping is None or mapping.start > address:
        return None
    return _special(number, mapping, "be moved that way")


def _no_room_to_move(process: Process, address: int, old: int, new: int, flags: int) -> Refusal:
    growth = _up(new) - _up(old)
    mapping = process.next_mapping(address)
    if growth > 0 and not flags & _MAYMOVE:
        beyond = process.next_mapping(address + _up(old))
        if beyond is not None and beyond.start < address + _up(new):
            return Refusal(
                errno.ENOMEM,
                Reason.OCCUPIED,
                f"{named(beyond)} is in the way of growing",
                "add RemapFlag.MAYMOVE, so that the memory may be moved",
                max(beyond.start, address + _up(old)),
                min(beyond.stop, address + _up(new)),
                beyond,
            )
    if (count := process.mapping_count()) >= max_map_count() - _REMAP_MARGIN - _SLACK:
        return mapping_limit(count, _REMAP_MARGIN)
    size = growth if not flags & _DONTUNMAP else _up(new)
    private = mapping is not None and not mapping.shared and bool(mapping.prot & Prot.WRITE)
    refusal = address_space_limit(process, size)
    if refusal is None and private:
        refusal = data_limit(process, size) or overcommit(size)
    return refusal or out_of_memory("limits leave room for it")


def brk_cause(number: int, address: int) -> Refusal | None:
    """The cause of a failed brk.

    Source: brk(2), mm/mmap.c.

    >>> import errno
    >>> from memprot.diagnosis.placing import brk_cause
    >>> brk_cause(errno.ENOMEM, 1).reason
    <Reason.BAD_ARGUMENT: 'bad_argument'>
    """
    if number != errno.ENOMEM:
        return None
    address &= _WORD
    now = _native.brk(0)
    process = Process()
    size = _up(address) - _up(now)
    heap = process.next_mapping(now - 1)
    if size < 0:
        if heap is not None and (refusal := first_sealed(process, _up(address), _up(now))) is not None:
            return refusal
        return _bad(number, f"the heap ends at {now:#x} and cannot end at {address:#x}", "go no lower than its start")
    there = process.next_mapping(_up(now))
    if there is not None and there.start < _up(address) + PAGE_SIZE:
        return Refusal(
            number,
            Reason.OCCUPIED,
            f"{named(there)} is in the way of the heap, which ends at {now:#x}",
            "use mmap, which finds room elsewhere",
            max(there.start, now),
            min(there.stop, address),
            there,
        )
    allowed = process.limit(resource.RLIMIT_DATA)
    refusal = address_space_limit(process, size) or data_limit(process, size) or overcommit(size)
    if refusal is None and allowed < size:
        refusal = Refusal(
            number,
            Reason.DATA_LIMIT,
            f"the heap would grow by {amount(size)}, and RLIMIT_DATA is {amount(allowed)}",
            "raise RLIMIT_DATA (ulimit -d)",
        )
    if refusal is not None:
        return refusal
    if (count := process.mapping_count()) >= max_map_count() - _SLACK:
        return mapping_limit(count, 1)
    return out_of_memory("limits leave room for it")


def sbrk_cause(number: int, n: int) -> Refusal | None:
    """The cause of a failed sbrk.

    >>> import errno
    >>> from memprot.diagnosis.placing import sbrk_cause
    >>> sbrk_cause(errno.ENOMEM, -(1 << 60)).reason
    <Reason.BAD_ARGUMENT: 'bad_argument'>
    """
    return brk_cause(number, max(_native.brk(0) + n, 0) & _WORD)
