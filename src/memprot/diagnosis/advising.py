"""Why advice about memory was not taken: madvise, process_madvise, msync, mincore, set_name."""

import errno
import os
from typing import TYPE_CHECKING

import memprot._native as _native
from memprot.diagnosis.limits import mapping_limit
from memprot.diagnosis.place import named
from memprot.diagnosis.populating import unpopulated
from memprot.diagnosis.process import Process, max_map_count, process_of
from memprot.diagnosis.range import (
    beyond_the_last,
    ends_outside,
    first_hole,
    hole,
    mapped_parts,
    misaligned,
    outside,
    wraps,
)
from memprot.diagnosis.refusal import Refusal
from memprot.diagnosis.unfit import POPULATE, unfit
from memprot.diagnosis.unseen import not_supported, out_of_memory, refused_by_policy
from memprot.flags import Advice
from memprot.prot import PAGE_SIZE
from memprot.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memprot._native import Mapping

__all__ = ["madvise_cause", "mapped_range_cause", "msync_cause", "process_madvise_cause", "set_name_cause"]

_WORD = 2**64 - 1
_SLACK = 8
_SYNC_FLAGS = 7
_PRIVILEGED = (Advice.HWPOISON, Advice.SOFT_OFFLINE)


def _stop(address: int, length: int) -> int:
    return address + -(-length // PAGE_SIZE) * PAGE_SIZE


def _range(number: int, address: int, length: int) -> Refusal | None:
    """What is wrong with the numbers of a range for a call that answers EINVAL to all of it."""
    if address % PAGE_SIZE:
        return misaligned(address)
    if _stop(address, length) > _WORD:
        return wraps(address, length, number)
    return None


def mapped_range_cause(number: int, address: int, length: int, *_: object) -> Refusal | None:
    """The cause of a failure that can only be the range: mincore.

    >>> import errno
    >>> from memprot.diagnosis.advising import mapped_range_cause
    >>> mapped_range_cause(errno.ENOMEM, 0, 4096).reason
    <Reason.HOLE: 'hole'>
    """
    address, length = address & _WORD, length & _WORD
    if number == errno.EINVAL:
        return _range(number, address, length)
    if number not in (errno.ENOMEM, errno.EFAULT):
        return None
    if beyond_the_last(address):
        return outside(number, address, length or PAGE_SIZE)
    if _stop(address, length) > _WORD:
        return wraps(address, length, number)
    place = first_hole(Process(), address, _stop(address, length))
    return None if place is None else hole(*place, number)


def madvise_cause(number: int, address: int, length: int, advice: int) -> Refusal | None:
    """The cause of a failed madvise. What is mapped beside a hole got the advice.

    Source: madvise(2), mm/madvise.c.

    >>> import errno
    >>> from memprot.diagnosis.advising import madvise_cause
    >>> madvise_cause(errno.EINVAL, 0, 0, 12345).reason
    <Reason.UNKNOWN_FLAGS: 'unknown_flags'>
    """
    address, length, advice = address & _WORD, length & _WORD, advice & _WORD
    if number == errno.EINVAL:
        # Which advice there is, the kernel looks at first, even for no memory at all.
        if (length == 0 and address % PAGE_SIZE == 0) or not _is_known(advice):
            return _unknown_advice(number, advice)
        refusal = _range(number, address, length)
        if refusal is not None:
            return refusal
    if number == errno.EPERM and advice in _PRIVILEGED:
        return Refusal(number, Reason.NOT_PERMITTED, "this advice is for administrators", "needs CAP_SYS_ADMIN")
    return _not_taken(Process(), number, address, _stop(address, length), advice)


def _not_taken(process: Process, number: int, start: int, stop: int, advice: int) -> Refusal | None:
    """Why memory did not take an advice, and which part of it did."""
    if number == errno.ENOMEM and stop > _WORD:
        return wraps(start, stop - start)
    place = first_hole(process, start, stop)
    if place is not None and advice in POPULATE:
        stop = place[0]  # this advice goes no further, any other one goes on behind the hole
    refusal = _first_unfit(process, start, stop, advice)
    if refusal is not None and refusal.errno == number and refusal.start is not None:
        return refusal._replace(applied=mapped_parts(process, start, refusal.start))
    if number == errno.ENOMEM:
        if place is not None:
            return hole(*place)._replace(applied=mapped_parts(process, start, stop))
        return _split_or_memory(process, number)
    if number == errno.EAGAIN:
        return _split_or_memory(process, number)
    if number == errno.EFAULT:
        return _not_brought_in(process, number, start, stop)
    if number == errno.EPERM:
        return _sealed_file(process, start, stop, advice) or refused_by_policy(
            process, number, "nothing in the range is sealed"
        )
    mapping = process.next_mapping(start)
    if number == errno.EBADF and mapping is not None:
        said = f"the advice is about files, and there is none behind {named(mapping)}"
        return _at(Refusal(number, Reason.BAD_ARGUMENT, said, "give it for file mappings"), mapping, start, stop)
    return None


def _first_unfit(process: Process, start: int, stop: int, advice: int) -> Refusal | None:
    at = start
    while at < stop and (mapping := process.next_mapping(at)) is not None and mapping.start < stop:
        refusal = unfit(process, mapping, max(mapping.start, start), min(mapping.stop, stop), advice)
        if refusal is not None:
            return refusal
        at = mapping.stop
    return None


def _not_brought_in(process: Process, number: int, start: int, stop: int) -> Refusal | None:
    """The page at which bringing pages into memory ended."""
    at = start
    while at < stop and (mapping := process.next_mapping(at)) is not None and process.pid is None:
        refusal = unpopulated(number, mapping, at, min(mapping.stop, stop))
        if refusal is not None and refusal.start is not None:
            return refusal._replace(applied=((start, refusal.start),) if start < refusal.start else ())
        at = mapping.stop
    return None


def _sealed_file(process: Process, start: int, stop: int, advice: int) -> Refusal | None:
    """The file that cannot be given a hole; seals cannot be asked for, so it is told only where there is one file."""
    mapping = process.next_mapping(start)
    if advice != Advice.REMOVE or mapping is None or not mapping.inode or mapping.stop < stop:
        return None
    said = f"the file of {named(mapping)} is sealed against writing (F_SEAL_FUTURE_WRITE), and a hole would change it"
    return _at(Refusal(errno.EPERM, Reason.MEMFD_SEAL, said, "leave it as it is"), mapping, start, stop)


def _is_known(advice: int) -> bool:
    try:
        _native.madvise(0, 0, advice)
    except OSError as error:
        return error.errno != errno.EINVAL
    return True


def _unknown_advice(number: int, advice: int) -> Refusal:
    name = next((member.name for member in Advice if member == advice), None)
    said = f"this kernel does not have the advice {advice if name is None else f'{name} ({advice})'}"
    return Refusal(number, Reason.UNKNOWN_FLAGS, said, "use another one of memprot.calls.Advice")


def _at(refusal: Refusal, mapping: "Mapping", start: int, stop: int) -> Refusal:
    return refusal._replace(start=max(mapping.start, start), stop=min(mapping.stop, stop), mapping=mapping)


def _split_or_memory(process: Process, number: int) -> Refusal:
    count = process.mapping_count()
    if count >= max_map_count() - _SLACK:
        return mapping_limit(count, 1)._replace(errno=number)
    return out_of_memory("everything is mapped, and the number of mappings leaves room", number)


def process_madvise_cause(
    number: int, pidfd: int, ranges: "Sequence[tuple[int, int]]", advice: int, flags: int = 0
) -> Refusal | None:
    """The cause of a failed process_madvise.

    Source: process_madvise(2), mm/madvise.c.

    >>> import errno
    >>> from memprot.diagnosis.advising import process_madvise_cause
    >>> process_madvise_cause(errno.EBADF, -1, [], 4).reason
    <Reason.BAD_DESCRIPTOR: 'bad_descriptor'>
    """
    if number == errno.EBADF:
        said = f"descriptor {pidfd} is not open, or stands for no process"
        return Refusal(number, Reason.BAD_DESCRIPTOR, said, "pass what os.pidfd_open gives")
    if number == errno.EINVAL and flags:
        return Refusal(number, Reason.UNKNOWN_FLAGS, f"process_madvise knows no flags {flags:#x}", "pass 0")
    pid = process_of(pidfd)
    ours = pid == os.getpid()
    if number == errno.ESRCH:
        return Refusal(number, Reason.BAD_DESCRIPTOR, f"the process of descriptor {pidfd} has ended", "leave it out")
    if number in (errno.EPERM, errno.EACCES) and not ours:
        said = f"the memory of process {pid} may not be changed by this one"
        return Refusal(number, Reason.NOT_PERMITTED, said, "ask as its user, with CAP_SYS_PTRACE and CAP_SYS_NICE")
    if number == errno.EINVAL:
        for start, _ in ranges:
            if start % PAGE_SIZE:
                return misaligned(start & _WORD)
        if not ours or not _is_known(advice & _WORD):
            said = f"the advice {advice:d} is unknown, or not one that another process may be given"
            return Refusal(number, Reason.UNKNOWN_FLAGS, said, "use Advice.COLD, PAGEOUT, WILLNEED or COLLAPSE")
    if not ranges:
        return None
    # Ranges before one that refuses would have made the call a success, in part.
    start, stop = (word & _WORD for word in ranges[0])
    if number == errno.EFAULT and ends_outside(start, stop - start):
        return outside(number, start, stop - start)
    return _not_taken(Process(None if ours else pid), number, start, _stop(start, stop - start), advice & _WORD)


def msync_cause(number: int, address: int, length: int, flags: int = 0) -> Refusal | None:
    """The cause of a failed msync.

    Source: msync(2), mm/msync.c.

    >>> import errno
    >>> from memprot.diagnosis.advising import msync_cause
    >>> msync_cause(errno.EINVAL, 0, 0, 64).reason
    <Reason.UNKNOWN_FLAGS: 'unknown_flags'>
    """
    flags &= _WORD
    if number == errno.EINVAL:
        if flags & ~_SYNC_FLAGS or flags & 5 == 5:
            said = f"the flags {flags:#x} are unknown or exclude each other"
            return Refusal(number, Reason.UNKNOWN_FLAGS, said, "use SyncFlag.ASYNC or SyncFlag.SYNC")
        return _range(number, address & _WORD, length & _WORD)
    if number == errno.EBUSY:
        address, stop = address & _WORD, _stop(address & _WORD, length & _WORD)
        return _first_unfit(Process(), address, stop, Advice.DONTNEED)  # refused by locked pages as well
    return mapped_range_cause(number, address, length)


def set_name_cause(number: int, address: int, length: int, name: str | bytes | None = None) -> Refusal | None:
    """The cause of a failed set_name.

    Source: PR_SET_VMA(2const), mm/madvise.c.

    >>> import errno
    >>> from memprot.diagnosis.advising import set_name_cause
    >>> set_name_cause(errno.EINVAL, 1, 4096, "name").reason
    <Reason.MISALIGNED: 'misaligned'>
    """
    address, length = address & _WORD, length & _WORD
    if number == errno.EBADF:
        mapping = Process().next_mapping(address)
        if mapping is None:
            return None
        said = f"{named(mapping)} has a name already: that of its file"
        return _at(
            Refusal(number, Reason.SPECIAL_MAPPING, said, "name memory without a file"),
            mapping,
            address,
            _stop(address, length),
        )
    if number != errno.EINVAL:
        return mapped_range_cause(number, address, length)
    refusal = _range(number, address, length)
    if refusal is not None:
        return refusal
    text = name.encode(errors="surrogateescape") if isinstance(name, str) else name or b""
    wrong = sorted({chr(byte) for byte in text if not 0x20 <= byte < 0x7F or chr(byte) in "\\`$[]"})
    if wrong or len(text) > 79:
        said = f"a name has at most 79 characters, printable and none of \\`$[], and this is {name!r}"
        return Refusal(number, Reason.BAD_ARGUMENT, said, "choose another name")
    return not_supported("names of memory (CONFIG_ANON_VMA_NAME)", "go without; names only help those who look", number)
