"""Why memory could not be mapped or unmapped: mmap, munmap, brk."""

import errno
import resource

import memprot._native as _native
from memprot.diagnosis.files import mapped_file_cause
from memprot.diagnosis.limits import address_space_limit, data_limit, lock_limit, mapping_limit, overcommit
from memprot.diagnosis.place import amount, named
from memprot.diagnosis.process import Process, max_map_count
from memprot.diagnosis.range import (
    bad_argument,
    ends_outside,
    misaligned,
    no_length,
    outside,
    special_mapping,
    whole_pages,
    wraps,
)
from memprot.diagnosis.refusal import Refusal
from memprot.diagnosis.unseen import out_of_memory, refused_by_policy
from memprot.diagnosis.walk import sealed
from memprot.flags import MAP_TYPE, MapFlag
from memprot.prot import PAGE_SIZE, Prot
from memprot.reason import Reason

__all__ = ["brk_cause", "first_sealed", "mmap_cause", "munmap_cause", "sbrk_cause"]

_WORD = 2**64 - 1
_SLACK = 8
_FIXED = MapFlag.FIXED | MapFlag.FIXED_NOREPLACE


def first_sealed(process: Process, start: int, stop: int) -> Refusal | None:
    """The first sealed mapping in a range.

    >>> from memprot.diagnosis.placing import first_sealed
    >>> from memprot.diagnosis.process import Process
    >>> first_sealed(Process(), 0, 4096)
    """
    for is_sealed in (process.seems_sealed, lambda mapping, _: process.is_sealed(mapping)):
        at = start
        while at < stop and (mapping := process.next_mapping(at)) is not None and mapping.start < stop:
            if is_sealed(mapping, max(mapping.start, start)):
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
        start, stop = max(there.start, address), min(there.stop, address + whole_pages(length))
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
        return lock_limit(process, whole_pages(length), number)
    if number == errno.ENOMEM:
        return _no_room(process, address, length, prot, flags)
    lowest = process.setting("vm/mmap_min_addr") if number == errno.EPERM and flags & _FIXED else 0
    if address < lowest:
        return Refusal(
            number,
            Reason.NOT_PERMITTED,
            f"addresses below {lowest:#x} (vm.mmap_min_addr) are kept free",
            "choose a higher address, or run with CAP_SYS_RAWIO",
            address,
            min(lowest, address + whole_pages(length)),
        )
    if number == errno.EPERM and flags & MapFlag.LOCKED and process.limit(resource.RLIMIT_MEMLOCK) == 0:
        return lock_limit(process, whole_pages(length), number)
    if not flags & MapFlag.ANONYMOUS:
        refusal = mapped_file_cause(number, fd, prot, flags)
        if refusal is not None:
            return refusal
    if number == errno.EPERM and flags & _FIXED:
        refusal = first_sealed(process, address, address + whole_pages(length))
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
    """What is wrong with the numbers, in the order in which the kernel looks at them."""
    if offset % PAGE_SIZE:
        return misaligned(offset, "offset")
    if flags & MapFlag.HUGETLB:
        return Refusal(
            number,
            Reason.NOT_SUPPORTED,
            f"huge pages of the size that the flags {flags:#x} ask for cannot be had here",
            "see /sys/kernel/mm/hugepages for the sizes this kernel has",
        )
    if length == 0:
        return no_length(number)
    if flags & _FIXED and address % PAGE_SIZE:
        return misaligned(address)
    sharing, anonymous = flags & MAP_TYPE, bool(flags & MapFlag.ANONYMOUS)
    if sharing == MapFlag.DROPPABLE and anonymous:
        return bad_argument(number, "droppable memory can neither be locked nor grow", "leave the other flags out")
    if sharing not in (MapFlag.SHARED, MapFlag.PRIVATE) and (anonymous or sharing != MapFlag.SHARED_VALIDATE):
        what = "memory without a file" if anonymous else "a file"
        return Refusal(
            number,
            Reason.UNKNOWN_FLAGS,
            f"the flags {flags:#x} do not say in a way that {what} can be how the memory is shared",
            "add one of MapFlag.SHARED and MapFlag.PRIVATE; SHARED_VALIDATE is for files, DROPPABLE for none",
        )
    if flags & MapFlag.GROWSDOWN:
        return bad_argument(number, "only private memory without a file can grow down", "leave GROWSDOWN out")
    return None


def _no_room(process: Process, address: int, length: int, prot: int, flags: int) -> Refusal | None:
    size = whole_pages(length)
    if size > _WORD:
        return wraps(address, length)
    if ends_outside(address if flags & _FIXED else 0, length):
        return outside(errno.ENOMEM, address if flags & _FIXED else 0, length)
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
        return bad_argument(
            errno.ENOMEM, f"no gap between the mappings has {amount(size)}", "ask for less, or unmap something"
        )
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
        if address + length > _WORD:
            return wraps(address, length, number)
        if ends_outside(address, length or PAGE_SIZE):
            return outside(number, address, length or PAGE_SIZE)
        if length == 0:
            return no_length(number)
        mapping = process.next_mapping(address)
        return None if mapping is None else special_mapping(number, mapping, "be cut there: its pages are larger")
    if number == errno.EPERM:
        refusal = first_sealed(process, address, address + whole_pages(length))
        return refusal or refused_by_policy(process, number, "nothing in the range is sealed")
    if number != errno.ENOMEM:
        return None
    mapping = process.next_mapping(address)
    count = process.mapping_count()
    in_the_middle = mapping is not None and mapping.start < address and mapping.stop > address + whole_pages(length)
    if in_the_middle and count >= max_map_count() - _SLACK:
        return mapping_limit(count, 1, mapping)._replace(start=address, stop=address + whole_pages(length))
    return out_of_memory("the number of mappings leaves room to split one")


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
    size = whole_pages(address) - whole_pages(now)
    heap = process.next_mapping(now - 1)
    if size < 0:
        if heap is not None and (refusal := first_sealed(process, whole_pages(address), whole_pages(now))) is not None:
            return refusal
        return bad_argument(
            number, f"the heap ends at {now:#x} and cannot end at {address:#x}", "go no lower than its start"
        )
    there = process.next_mapping(whole_pages(now))
    if there is not None and there.start < whole_pages(address) + PAGE_SIZE:
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
