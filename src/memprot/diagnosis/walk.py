"""mprotect as the kernel does it: its checks in its order, mapping by mapping, asked without doing anything.

Whoever asks beforehand learns whether the call would succeed. Whoever asks after a failure learns why: what the
call had changed before it was refused passes again, and what refused it refuses again.

Source: do_mprotect_pkey and mprotect_fixup in mm/mprotect.c, mm/vma.c.
"""

import errno
from typing import TYPE_CHECKING, NamedTuple

import memprot._native as _native
from memprot.diagnosis.forbidden import forbidden
from memprot.diagnosis.limits import data_limit, mapping_limit, overcommit
from memprot.diagnosis.place import named, span
from memprot.diagnosis.process import Process, max_map_count
from memprot.diagnosis.range import hole, misaligned, wraps
from memprot.diagnosis.refusal import Refusal
from memprot.prot import PAGE_SIZE, Prot
from memprot.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from memprot._native import Mapping

__all__ = ["Request", "Walk"]

_GROWS = Prot.GROWSDOWN | Prot.GROWSUP
_ACCESS = Prot.READ | Prot.WRITE | Prot.EXEC
_KNOWN = sum(member.value for member in Prot)  # SEM and what the architecture adds are among them


class Request(NamedTuple):
    """What mprotect or pkey_mprotect is asked for: whole registers.

    >>> from memprot.diagnosis.walk import Request
    >>> Request(0x1000, 4096, 1).key
    -1
    """

    address: int
    length: int
    prot: int
    key: int = -1


class Walk:
    """One look at what a request would meet.

    :param process: whose memory it is about.
    :param sealed: how to find out whether a mapping is sealed; None asks the process.

    >>> from memprot.diagnosis.process import Process
    >>> from memprot.diagnosis.walk import Request, Walk
    >>> Walk(Process()).refusal(Request(1, 4096, 1)).reason
    <Reason.MISALIGNED: 'misaligned'>
    """

    def __init__(self, process: Process, sealed: "Callable[[Mapping, int], bool] | None" = None) -> None:
        self._process = process
        self._sealed = sealed or (lambda mapping, start: process.is_sealed(mapping))
        self._near_limit: bool | None = None
        self._count = 0
        self.start: int | None = None
        """Where the change begins; None while the arguments are wrong."""

    def refusal(self, request: Request) -> Refusal | None:
        """What would refuse the request; None: nothing."""
        address, length, prot, key = (word % 2**64 for word in request)
        if prot & _GROWS == _GROWS:
            return Refusal(
                errno.EINVAL, Reason.BOTH_GROWS, "GROWSDOWN and GROWSUP exclude each other", "leave one of them out"
            )
        if address % PAGE_SIZE:
            return misaligned(address)
        if length == 0:
            return None
        stop = address + -(-length // PAGE_SIZE) * PAGE_SIZE
        if stop >= 2**64:
            return wraps(address, length)
        if unknown := prot & ~_KNOWN:
            return Refusal(
                errno.EINVAL,
                Reason.UNKNOWN_FLAGS,
                f"the bits {unknown:#x} of the protection mean nothing to this kernel",
                "use the flags of memprot.Prot",
            )
        return self._walk(address, stop, prot)

    def _walk(self, address: int, stop: int, prot: int) -> Refusal | None:
        mapping = self._process.next_mapping(address)
        if mapping is None or mapping.start >= stop:
            return hole(address, stop)
        self.start = address
        if prot & Prot.GROWSDOWN:
            self.start = mapping.start
        elif mapping.start > address:
            return hole(address, mapping.start)
        if prot & _GROWS and not (prot & Prot.GROWSDOWN and self._process.grows_down(mapping)):
            return _not_growing(mapping, prot, address, stop)
        wanted = Prot(prot & _ACCESS)
        implied = bool(wanted & Prot.READ) and not wanted & Prot.EXEC and self._process.reads_imply_execute()
        denies = bool(wanted & Prot.EXEC or implied) and self._process.denies_write_execute()
        at = mapping.start
        before = None
        while mapping is not None and mapping.start < stop:
            if mapping.start != at:
                return hole(at, mapping.start)
            start, end = max(mapping.start, self.start), min(mapping.stop, stop)
            refusal = self._refusal_of(before, mapping, start, end, wanted, implied, denies)
            if refusal is not None:
                return refusal
            at = mapping.stop
            if at >= stop:
                return None
            before, mapping = mapping, self._process.next_mapping(at)
        return hole(at, stop)

    def _refusal_of(
        self, before: "Mapping | None", mapping: "Mapping", start: int, stop: int, wanted: Prot, implied: bool, denies: bool
    ) -> Refusal | None:
        process = self._process
        if implied and process.may_become(mapping, Prot.EXEC):
            wanted |= Prot.EXEC
        allowed = process.may_become(mapping, wanted)
        if allowed != wanted:
            return forbidden(process, mapping, wanted & ~allowed, start, stop)
        if denies and wanted & Prot.EXEC and (wanted & Prot.WRITE or not mapping.prot & Prot.EXEC):
            return _denied(mapping, wanted, implied, start, stop)
        if self._sealed(mapping, start):
            return Refusal(
                errno.EPERM,
                Reason.SEALED,
                f"{named(mapping)} is sealed (mseal)",
                "a sealed mapping stays as it is until the process ends",
                start,
                stop,
                mapping,
            )
        if mapping.prot == wanted:
            return None
        if wanted & Prot.WRITE:
            refusal = self._room_for(mapping, start, stop)
            if refusal is not None:
                return refusal._replace(start=start, stop=stop, mapping=mapping)
        return self._split(before, mapping, start, stop, wanted)

    def _room_for(self, mapping: "Mapping", start: int, stop: int) -> Refusal | None:
        """Whether so much of a mapping may become writable."""
        if mapping.shared or mapping.prot & Prot.WRITE:
            return None
        refusal = data_limit(self._process, stop - start)
        if refusal is not None and not self._process.grows_down(mapping):
            return refusal
        refusal = overcommit(stop - start)
        if refusal is None or self._process.flags(mapping) & {"ac", "ht", "nr"}:
            return None
        return refusal

    def _split(
        self, before: "Mapping | None", mapping: "Mapping", start: int, stop: int, wanted: Prot
    ) -> Refusal | None:
        """Whether the mapping can be split where the request begins and ends in it."""
        needed = (start > mapping.start) + (stop < mapping.stop)
        if needed == 0:
            return None
        if self._near_limit is None:
            self._near_limit = self._process.may_be_near_mapping_limit()
            if self._near_limit:
                self._count = self._process.mapping_count()
        if not self._near_limit or self._merges(before, mapping, start, stop, wanted):
            return None
        self._count += needed
        if self._count <= max_map_count():
            return None
        return mapping_limit(self._count - needed, needed, mapping)

    def _merges(
        self, before: "Mapping | None", mapping: "Mapping", start: int, stop: int, wanted: Prot
    ) -> bool:
        """Whether the part becomes one with a neighbour, as far as that can be seen."""
        if start == mapping.start:
            if before is None and start > 0:
                before = self._process.next_mapping(start - 1)
            return before is not None and before.stop == start and _alike(before, mapping, wanted)
        after = self._process.next_mapping(stop) if stop == mapping.stop else None
        return after is not None and after.start == stop and _alike(mapping, after, wanted)


def _alike(lower: "Mapping", upper: "Mapping", wanted: Prot) -> bool:
    """Whether two neighbours would be one mapping if the one that changes had the wanted protection."""
    return (
        wanted in (lower.prot, upper.prot)
        and lower.shared == upper.shared
        and (lower.device, lower.inode, lower.path, lower.kind) == (upper.device, upper.inode, upper.path, upper.kind)
        and (lower.inode == 0 or lower.offset - lower.start == upper.offset - upper.start)
    )


def _not_growing(mapping: "Mapping", prot: int, start: int, stop: int) -> Refusal:
    flag, end = ("GROWSDOWN", "start") if prot & Prot.GROWSDOWN else ("GROWSUP", "end")
    return Refusal(
        errno.EINVAL,
        Reason.NOT_GROWING,
        f"{flag} was given, and {named(mapping)} does not grow at its {end}",
        f"leave {flag} out",
        max(mapping.start, start),
        min(mapping.stop, stop),
        mapping,
    )


def _denied(mapping: "Mapping", wanted: Prot, implied: bool, start: int, stop: int) -> Refusal:
    said = "writable and executable at once" if wanted & Prot.WRITE else "executable after it was not"
    why = " (readable memory becomes executable here: READ_IMPLIES_EXEC, personality(2))" if implied else ""
    return Refusal(
        errno.EACCES,
        Reason.DENY_WRITE_EXECUTE,
        f"{named(mapping)} would become {said}{why}, and the process has denied itself that (PR_SET_MDWE)",
        "map code executable from the start, from a file or a memfd of which another mapping is writable",
        start,
        stop,
        mapping,
    )
