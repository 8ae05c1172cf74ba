"""Why mprotect or pkey_mprotect failed."""

import errno

from memprot._native import Mapping
from memprot.diagnosis import selinux
from memprot.diagnosis.keys import key_cause
from memprot.diagnosis.limits import mapping_limit
from memprot.diagnosis.place import named
from memprot.diagnosis.process import Process, max_map_count
from memprot.diagnosis.refusal import Refusal
from memprot.diagnosis.unseen import out_of_memory, refused_by_policy
from memprot.diagnosis.walk import Request, Walk, wrong_arguments
from memprot.prot import PAGE_SIZE, Prot
from memprot.reason import Reason

__all__ = ["mprotect_cause"]

_WORD = 2**64 - 1
_ANY_KEY = 2**32 - 1
_ACCESS = int(Prot.READ | Prot.WRITE | Prot.EXEC)
# Python itself may have unmapped a little since the call failed.
_SLACK = 8


def mprotect_cause(number: int, address: int, length: int, prot: int, key: int = -1) -> Refusal | None:
    """The cause of a failed mprotect or pkey_mprotect, looked for right after it failed.

    :param number: the errno.
    :param key: of pkey_mprotect.

    >>> import errno
    >>> from memprot.diagnosis.protection import mprotect_cause
    >>> mprotect_cause(errno.ENOMEM, 0, 4096, 1).reason
    <Reason.HOLE: 'hole'>
    """
    request = Request(address & _WORD, length & _WORD, prot & _WORD)
    process = Process()
    if number == errno.EINVAL and key & _ANY_KEY != _ANY_KEY and wrong_arguments(request) is None:
        refusal = key_cause(number, key)
        if refusal is not None:
            return refusal
    # A seal gives EPERM and nothing else does, so whoever got past it with another errno met none.
    walk = Walk(process, process.seems_sealed if number == errno.EPERM else _never)
    refusal = walk.refusal(request)
    if refusal is None and number == errno.EPERM:
        walk = Walk(process)
        refusal = walk.refusal(request)
    if refusal is None or refusal.errno != number:
        refusal = _unforeseen(process, number, request)
    if refusal is None or walk.start is None:
        return refusal
    stop = refusal.start if refusal.start is not None else walk.start
    return refusal._replace(applied=_changed(process, walk.start, stop, request))


def _never(mapping: Mapping, start: int) -> bool:
    del mapping, start
    return False


def _unforeseen(process: Process, number: int, request: Request) -> Refusal | None:
    """What none of the checks that can be repeated accounts for."""
    if number == errno.ENOMEM:
        return _nearly_full(process, request) or out_of_memory("mappings and limits leave room for the change")
    if number not in (errno.EACCES, errno.EPERM):
        return None
    place = _first_unchanged(process, request) if number == errno.EACCES else None
    if place is not None and selinux.enforcing():
        rules = selinux.rules(_change(process, place, request))
        if rules:
            return _by_selinux(rules, place, request)
    refusal = refused_by_policy(process, number, "nothing that mprotect checks itself stands in the way")
    if place is None or process.has_seccomp_filter():
        return refusal
    start, stop = max(place.start, request.address), min(place.stop, _stop(request))
    return refusal._replace(start=start, stop=stop, mapping=place)


def _nearly_full(process: Process, request: Request) -> Refusal | None:
    count = process.mapping_count()
    if count < max_map_count() - _SLACK:
        return None
    mapping = process.next_mapping(request.address)
    last = process.next_mapping(_stop(request) - 1)
    if mapping is None or last is None:
        return None
    split = mapping if mapping.start < request.address else last
    needed = (split.start < request.address) + (split.stop > _stop(request))
    return mapping_limit(count, needed, split) if needed else None


def _stop(request: Request) -> int:
    return request.address + -(-request.length // PAGE_SIZE) * PAGE_SIZE


def _has(process: Process, mapping: Mapping, request: Request) -> bool:
    """Whether a mapping has the protection that was asked for."""
    wanted, present = request.prot & _ACCESS, int(mapping.prot)
    return present == wanted or (present == wanted | Prot.EXEC and process.reads_imply_execute())


def _changed(process: Process, start: int, stop: int, request: Request) -> tuple[tuple[int, int], ...]:
    """The part of a range that the call passed, as far as it now has the protection that was asked for."""
    ranges: list[tuple[int, int]] = []
    at = start
    while at < stop and (mapping := process.next_mapping(at)) is not None and mapping.start < stop:
        part = max(mapping.start, start), min(mapping.stop, stop)
        if _has(process, mapping, request):
            if ranges and ranges[-1][1] == part[0]:
                part = ranges.pop()[0], part[1]
            ranges.append(part)
        at = mapping.stop
    return tuple(ranges)


def _first_unchanged(process: Process, request: Request) -> Mapping | None:
    """The first mapping of the range that does not have the protection that was asked for."""
    at, stop = request.address, _stop(request)
    while at < stop and (mapping := process.next_mapping(at)) is not None and mapping.start < stop:
        if not _has(process, mapping, request):
            return mapping
        at = mapping.stop
    return None


def _change(process: Process, mapping: Mapping, request: Request) -> selinux.Change:
    return selinux.Change(
        before=mapping.prot,
        wanted=Prot(request.prot & _ACCESS),
        file_backed=mapping.inode != 0,
        shared=mapping.shared,
        heap=mapping.kind == "heap",
        stack=mapping.kind == "stack" or process.holds_our_stack(mapping),
        modified=True,  # what has not been modified needs no permission, so it was not refused for that
    )


_RULES = {
    Reason.EXECMEM: "anonymous memory, or private file memory that is writable too, would become executable",
    Reason.EXECHEAP: "the heap would become executable",
    Reason.EXECSTACK: "a stack would become executable",
    Reason.EXECMOD: "file memory that was modified would become executable",
}


def _by_selinux(rules: tuple[Reason, ...], mapping: Mapping, request: Request) -> Refusal:
    others = "".join(f", or {rule} ({_RULES[rule]})" for rule in rules[1:])
    return Refusal(
        errno.EACCES,
        rules[0],
        f"SELinux is enforcing, and of {named(mapping)} its policy refuses {rules[0]} ({_RULES[rules[0]]}){others}",
        "the audit log has the denial (ausearch -m avc); allow it in the policy, or map code from a file",
        max(mapping.start, request.address),
        min(mapping.stop, _stop(request)),
        mapping,
    )
