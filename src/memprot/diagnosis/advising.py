"""Why advice about memory was not taken: madvise, process_madvise, msync, mincore, set_name."""

import errno
from typing import TYPE_CHECKING

import memprot._native as _native
from memprot.diagnosis.limits import mapping_limit
from memprot.diagnosis.place import named
from memprot.diagnosis.placing import first_sealed
from memprot.diagnosis.process import Process, max_map_count
from memprot.diagnosis.range import first_hole, hole, misaligned, wraps
from memprot.diagnosis.refusal import Refusal
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
_NOT_LOCKED = (Advice.DONTNEED, Advice.FREE, Advice.REMOVE, Advice.PAGEOUT, Advice.COLD, Advice.GUARD_INSTALL)
_PRIVILEGED = (Advice.HWPOISON, Advice.SOFT_OFFLINE)
# What the kernel's own special mappings refuse, in the letters of VmFlags.
_SPECIAL = {"pf", "io", "ht", "mm"}


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
    process = Process()
    if number == errno.EINVAL:
        # Which advice there is, the kernel looks at first, even for no memory at all.
        if (length == 0 and address % PAGE_SIZE == 0) or not _is_known(advice):
            return _unknown_advice(number, advice)
        return _range(number, address, length) or _unfit(process, number, address, length, advice)
    if number == errno.ENOMEM:
        refusal = mapped_range_cause(number, address, length)
        if refusal is not None:
            return refusal._replace(applied=_mapped_parts(process, address, _stop(address, length)))
        return _split_or_memory(process, number)
    if number == errno.EAGAIN:
        return _split_or_memory(process, number)
    if number == errno.EPERM:
        if advice in _PRIVILEGED:
            return Refusal(number, Reason.NOT_PERMITTED, "this advice is for administrators", "needs CAP_SYS_ADMIN")
        refusal = first_sealed(process, address, _stop(address, length))
        if refusal is not None:
            return refusal._replace(explanation=f"{refusal.explanation}, and this advice would discard what it holds")
        return refused_by_policy(process, number, "nothing in the range is sealed")
    mapping = process.next_mapping(address)
    if number == errno.EBADF and mapping is not None:
        said = f"the advice is about files, and there is none behind {named(mapping)}"
        return Refusal(
            number, Reason.BAD_ARGUMENT, said, "give it for file mappings", mapping.start, mapping.stop, mapping
        )
    if number == errno.EACCES and advice == Advice.REMOVE and mapping is not None:
        said = f"only a shared and writable mapping can make a hole in a file, and {named(mapping)} is not"
        return Refusal(
            number, Reason.FILE_READ_ONLY, said, "map it shared and writable", mapping.start, mapping.stop, mapping
        )
    return None


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


def _unfit(process: Process, number: int, address: int, length: int, advice: int) -> Refusal | None:
    """The first mapping that is of no kind for the advice."""
    at, stop = address, _stop(address, length)
    while at < stop and (mapping := process.next_mapping(at)) is not None and mapping.start < stop:
        flags = process.flags(mapping)
        if "lo" in flags and advice in _NOT_LOCKED:
            said, hint = f"{named(mapping)} is locked into memory (mlock)", "unlock it first (munlock)"
            return _at(Refusal(number, Reason.LOCKED, said, hint), mapping, address, stop)
        if flags & _SPECIAL or (advice == Advice.FREE and mapping.inode) or mapping.kind in ("kernel", "vvar", "vdso"):
            said, hint = f"{named(mapping)} is of a kind that this advice is not for", "leave it out"
            return _at(Refusal(number, Reason.SPECIAL_MAPPING, said, hint), mapping, address, stop)
        at = mapping.stop
    return None


def _at(refusal: Refusal, mapping: "Mapping", start: int, stop: int) -> Refusal:
    return refusal._replace(start=max(mapping.start, start), stop=min(mapping.stop, stop), mapping=mapping)


def _mapped_parts(process: Process, start: int, stop: int) -> tuple[tuple[int, int], ...]:
    parts: list[tuple[int, int]] = []
    at = start
    while at < stop and (mapping := process.next_mapping(at)) is not None and mapping.start < stop:
        part = max(mapping.start, start), min(mapping.stop, stop)
        if parts and parts[-1][1] == part[0]:
            part = parts.pop()[0], part[1]
        parts.append(part)
        at = mapping.stop
    return tuple(parts)


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
    if number == errno.EPERM:
        said = "the memory of that process may not be changed by this one"
        return Refusal(number, Reason.NOT_PERMITTED, said, "ask as its user, with CAP_SYS_PTRACE and CAP_SYS_NICE")
    if number == errno.EINVAL:
        if flags:
            return Refusal(number, Reason.UNKNOWN_FLAGS, f"process_madvise knows no flags {flags:#x}", "pass 0")
        for start, _ in ranges:
            if start % PAGE_SIZE:
                return misaligned(start & _WORD)
        said = f"the advice {advice:d} is unknown, or not one that another process may be given"
        return Refusal(number, Reason.UNKNOWN_FLAGS, said, "use Advice.COLD, PAGEOUT, WILLNEED or COLLAPSE")
    return None


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
        return _unfit(Process(), number, address & _WORD, length & _WORD, Advice.DONTNEED)
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
