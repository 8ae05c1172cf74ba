"""Why memory could not be locked or sealed: mlock and its relatives, mseal."""

import errno
import resource

from memprot.diagnosis.limits import lock_limit, mapping_limit
from memprot.diagnosis.place import named
from memprot.diagnosis.populating import unpopulated
from memprot.diagnosis.process import Process, max_map_count
from memprot.diagnosis.range import first_hole, hole, mapped_parts, misaligned, whole_pages, wraps
from memprot.diagnosis.refusal import Refusal
from memprot.diagnosis.unseen import not_supported, out_of_memory, refused_by_policy
from memprot.prot import PAGE_SIZE
from memprot.reason import Reason

__all__ = ["mlock_cause", "mlockall_cause", "mseal_cause"]

_WORD = 2**64 - 1
_SLACK = 8
_ON_FAULT = 1
_ALL_FLAGS = 7


def mlock_cause(number: int, address: int, length: int, flags: int = 0) -> Refusal | None:
    """The cause of a failed mlock, mlock2 or munlock. They round the address down themselves.

    Source: mlock(2), mm/mlock.c.

    >>> import errno
    >>> from memprot.diagnosis.locking import mlock_cause
    >>> mlock_cause(errno.ENOMEM, 0, 4096).reason
    <Reason.HOLE: 'hole'>
    """
    address, length, flags = address & _WORD, length & _WORD, flags & _WORD
    start = address - address % PAGE_SIZE
    # As the kernel does it: a length near 2**64 becomes a small one, or none.
    stop = start + (whole_pages(length + address - start & _WORD) & _WORD)
    process = Process()
    if number == errno.EINVAL:
        if flags & ~_ON_FAULT:
            return Refusal(
                number, Reason.UNKNOWN_FLAGS, f"mlock2 knows no flags {flags:#x}", "use memprot.calls.LockFlag"
            )
        return wraps(address, length, number) if stop > _WORD else None
    if number == errno.EPERM:
        if process.limit(resource.RLIMIT_MEMLOCK) == 0:
            return lock_limit(process, length, number)
        return refused_by_policy(process, number, "RLIMIT_MEMLOCK allows to lock memory")
    if number not in (errno.ENOMEM, errno.EAGAIN):
        return None
    # The limit is looked at before the mappings are.
    refusal = lock_limit(process, stop - start, number)
    if refusal is not None and number == errno.ENOMEM:
        return refusal
    place = first_hole(process, start, stop)
    if place is not None:
        return hole(*place, number)._replace(applied=mapped_parts(process, start, place[0]))
    count = process.mapping_count()
    if count >= max_map_count() - _SLACK:
        return mapping_limit(count, 1)._replace(errno=number)
    refusal = _not_brought_in(process, number, start, stop)
    if refusal is not None:
        return refusal._replace(applied=((start, stop),))
    return out_of_memory("everything is mapped, and limits leave room", number)


def _not_brought_in(process: Process, number: int, start: int, stop: int) -> Refusal | None:
    """The first mapping or page that cannot be brought into memory; all of the range is marked as locked."""
    at = start
    while at < stop and (mapping := process.next_mapping(at)) is not None and mapping.start < stop:
        at, end = max(mapping.start, at), min(mapping.stop, stop)
        if not mapping.prot:
            said = f"{named(mapping)} may not be read, so its pages cannot be brought into memory"
            hint = "make it readable first; it is marked as locked all the same"
            return Refusal(number, Reason.BAD_ARGUMENT, said, hint, at, end, mapping)
        refusal = unpopulated(number, mapping, at, end)
        if refusal is not None:
            return refusal._replace(hint="leave it out; it is marked as locked all the same")
        at = mapping.stop
    return None


def mlockall_cause(number: int, flags: int = 0) -> Refusal | None:
    """The cause of a failed mlockall.

    Source: mlockall(2), mm/mlock.c.

    >>> import errno
    >>> from memprot.diagnosis.locking import mlockall_cause
    >>> mlockall_cause(errno.EINVAL, 8).reason
    <Reason.UNKNOWN_FLAGS: 'unknown_flags'>
    """
    process = Process()
    if number == errno.EINVAL:
        said = f"the flags {flags:#x} say nothing that mlockall can do"
        return Refusal(number, Reason.UNKNOWN_FLAGS, said, "use LockAllFlag.CURRENT, FUTURE or both")
    if number in (errno.EPERM, errno.ENOMEM):
        return lock_limit(process, process.status("VmSize") - process.status("VmLck"), number)
    return None


def mseal_cause(number: int, address: int, length: int, flags: int = 0) -> Refusal | None:
    """The cause of a failed mseal, which seals everything or nothing.

    Source: Documentation/userspace-api/mseal.rst, mm/mseal.c.

    >>> import errno
    >>> from memprot.diagnosis.locking import mseal_cause
    >>> mseal_cause(errno.ENOMEM, 0, 4096).reason
    <Reason.HOLE: 'hole'>
    """
    address, length, flags = address & _WORD, length & _WORD, flags & _WORD
    process = Process()
    if number == errno.ENOSYS:
        return not_supported("mseal", "memprot.features.available('mseal') tells beforehand (Linux 6.10)")
    if number == errno.EINVAL:
        if flags:
            return Refusal(number, Reason.UNKNOWN_FLAGS, f"mseal knows no flags, and {flags:#x} were given", "pass 0")
        if address % PAGE_SIZE:
            return misaligned(address)
        return wraps(address, length, number)
    if number != errno.ENOMEM:
        return None
    place = first_hole(process, address, -(-(address + length) // PAGE_SIZE) * PAGE_SIZE)
    if place is not None:
        return hole(*place)
    count = process.mapping_count()
    if count >= max_map_count() - _SLACK:
        return mapping_limit(count, 1)
    return out_of_memory("everything is mapped, and the number of mappings leaves room")
