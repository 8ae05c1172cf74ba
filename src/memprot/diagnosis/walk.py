"""mprotect as the kernel does it: its checks in its order, mapping by mapping, asked without doing anything.

Whoever asks beforehand learns whether the call would succeed. Whoever asks after a failure learns why: what the
call had changed before it was refused passes again, and what refused it refuses again.

Source: do_mprotect_pkey and mprotect_fixup in mm/mprotect.c, mm/vma.c.
"""

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from memprot.diagnosis.forbidden import forbidden
from memprot.diagnosis.limits import beyond_promise, data_limit, mapping_limit
from memprot.diagnosis.place import amount, named
from memprot.diagnosis.process import Memory, Process, max_map_count, memory_of_the_system, overcommit_mode
from memprot.diagnosis.range import hole, misaligned, wraps
from memprot.diagnosis.refusal import Refusal
from memprot.prot import ACCEPTED, PAGE_SIZE, Prot
from memprot.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from memprot._native import Mapping

__all__ = ["Request", "Walk", "sealed", "wrong_arguments"]

# Plain numbers: an IntFlag makes an object of each result, and a request may meet thousands of mappings.
_READ, _WRITE, _EXEC = int(Prot.READ), int(Prot.WRITE), int(Prot.EXEC)
_ACCESS = _READ | _WRITE | _EXEC
_GROWSDOWN, _GROWSUP = int(Prot.GROWSDOWN), int(Prot.GROWSUP)
_GROWS = _GROWSDOWN | _GROWSUP
_KNOWN = int(ACCEPTED)
_WORD = 2**64 - 1
_SMALLEST_HUGE = 1 << 16
# So much is promised by heuristic without looking further, also where some memory was taken away since.
_MEMORY = os.sysconf("SC_PHYS_PAGES") * PAGE_SIZE // 2


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


def wrong_arguments(request: Request) -> Refusal | None:
    """What is wrong with a request whatever is mapped; None: nothing.

    >>> from memprot.diagnosis.walk import Request, wrong_arguments
    >>> wrong_arguments(Request(0, 4096, 1 << 40)).reason
    <Reason.UNKNOWN_FLAGS: 'unknown_flags'>
    """
    address, length, prot = request.address & _WORD, request.length & _WORD, request.prot & _WORD
    if prot & _GROWS == _GROWS:
        return Refusal(
            errno.EINVAL, Reason.BOTH_GROWS, "GROWSDOWN and GROWSUP exclude each other", "leave one of them out"
        )
    if address % PAGE_SIZE:
        return misaligned(address)
    if length == 0:
        return None
    stop = address + -(-length // PAGE_SIZE) * PAGE_SIZE
    if stop > _WORD:
        return wraps(address, length)
    if unknown := prot & ~_KNOWN:
        return Refusal(
            errno.EINVAL,
            Reason.UNKNOWN_FLAGS,
            f"the bits {unknown:#x} of the protection mean nothing to this kernel",
            "use the flags of memprot.Prot",
        )
    return None


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
        self._mode: int | None = None
        self._memory: Memory | None = None
        self._count = 0
        self._stop = 0
        self._size = 0  # bytes of private memory that would have become writable on the way
        self._more: list[tuple[Mapping, int]] = []  # in these mappings
        self.start: int | None = None
        """Where the change begins; None when nothing is changed because the request as a whole is refused."""

    def refusal(self, request: Request) -> Refusal | None:
        """What would refuse the request; None: nothing."""
        refusal = wrong_arguments(request)
        address, length, prot, _ = request
        address, length = address & _WORD, length & _WORD
        if refusal is not None or length == 0:
            return refusal
        self._stop = address + -(-length // PAGE_SIZE) * PAGE_SIZE
        return self._walk(address, self._stop, prot & _WORD)

    def _walk(self, address: int, stop: int, prot: int) -> Refusal | None:
        mapping = self._process.next_mapping(address)
        if mapping is None or mapping.start >= stop:
            return hole(address, stop)
        if mapping.start > address and not prot & _GROWSDOWN:
            return hole(address, mapping.start)
        if prot & _GROWS and not (prot & _GROWSDOWN and self._process.grows_down(mapping)):
            return _not_growing(mapping, prot, address, stop)
        self.start = mapping.start if prot & _GROWSDOWN else address
        wanted = prot & _ACCESS
        implied = wanted & (_READ | _EXEC) == _READ and self._process.reads_imply_execute()
        denies = (implied or wanted & _EXEC != 0) and self._process.denies_write_execute()
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
        self,
        before: "Mapping | None",
        mapping: "Mapping",
        start: int,
        stop: int,
        wanted: int,
        implied: bool,
        denies: bool,
    ) -> Refusal | None:
        process, present = self._process, int(mapping.prot)
        if implied and process.may_become(mapping, present, _EXEC):
            wanted |= _EXEC
        allowed = process.may_become(mapping, present, wanted)
        if allowed != wanted:
            return forbidden(process, mapping, Prot(wanted & ~allowed), start, stop)
        if denies and wanted & _EXEC and (wanted & _WRITE or not present & _EXEC):
            return _denied(mapping, wanted, implied, start, stop)
        if self._sealed(mapping, start):
            return sealed(mapping, start, stop)
        if present == wanted:
            return None
        if wanted & _WRITE:
            refusal = None if present & _WRITE or mapping.shared else self._room_for(mapping, start, stop)
            if refusal is not None:
                return refusal._replace(start=start, stop=stop, mapping=mapping)
        return self._split(before, mapping, start, stop, wanted)

    def _room_for(self, mapping: "Mapping", start: int, stop: int) -> Refusal | None:
        """Whether so much of a private mapping may become writable."""
        self._more.append((mapping, stop - start))
        self._size += stop - start
        size = self._size
        if data_limit(self._process, size) is not None and not self._process.grows_down(mapping):
            # A stack is not counted as data, which only its flags tell.
            data = sum(size for other, size in self._more if not self._process.grows_down(other))
            refusal = data_limit(self._process, data)
            if refusal is not None:
                return refusal
        refusal = self._beyond_promise(size)
        if refusal is None or self._process.flags(mapping) & {"ac", "ht", "nr"}:
            return None
        return refusal

    def _beyond_promise(self, size: int) -> Refusal | None:
        """Whether the kernel promises so many more bytes; its settings are read once for a walk."""
        if self._mode is None:
            self._mode = overcommit_mode()
        if self._mode == 1 or (self._mode == 0 and size <= _MEMORY):
            return None
        if self._memory is None:
            self._memory = memory_of_the_system()
        return beyond_promise(self._memory, size)

    def _split(
        self, before: "Mapping | None", mapping: "Mapping", start: int, stop: int, wanted: int
    ) -> Refusal | None:
        """Whether the mapping can be split where the request begins and ends in it."""
        process = self._process
        needed = (start > mapping.start) + (stop < mapping.stop)
        if needed == 0 and stop == self._stop:
            return None  # it is changed whole, and no other one has to be split any more
        if self._near_limit is None:
            self._near_limit = process.may_be_near_mapping_limit()
            if self._near_limit:
                self._count = process.mapping_count()
        if not self._near_limit:
            return self._indivisible(mapping, start, stop) if needed else None
        # What the walk has passed has the wanted protection by now; where it begins, the neighbour keeps its own.
        below = before if before is not None or start == 0 else process.next_mapping(start - 1)
        left = start == mapping.start and below is not None and below.stop == start
        if left and below is not None:
            left = _alike(below, mapping) and (before is not None or int(below.prot) == wanted)
        above = process.next_mapping(stop) if stop == mapping.stop else None
        right = above is not None and above.start == stop and int(above.prot) == wanted and _alike(mapping, above)
        if needed == 0:
            self._count -= left + right
        elif not left and not right:
            self._count += needed
            if self._count > max_map_count():
                return mapping_limit(self._count - needed, needed, mapping)
            return self._indivisible(mapping, start, stop)
        return None

    def _indivisible(self, mapping: "Mapping", start: int, stop: int) -> Refusal | None:
        """Whether a mapping that has to be split cannot be: the kernel's own, and within huge pages."""
        what = f"{named(mapping)} cannot be split"
        if mapping.kind not in ("vdso", "vvar"):
            # Most mappings are no candidates for huge pages, and their flags cost much.
            if mapping.inode == 0 or mapping.start % _SMALLEST_HUGE or "ht" not in self._process.flags(mapping):
                return None
            size = self._process.huge_page_size(mapping)
            if start % size == 0 and stop % size == 0:
                return None
            what = f"{named(mapping)} has pages of {amount(size)}, and cannot be split within one"
        return Refusal(
            errno.EINVAL, Reason.SPECIAL_MAPPING, what, "change it whole, or at its own pages", start, stop, mapping
        )


def _alike(lower: "Mapping", upper: "Mapping") -> bool:
    """Whether two neighbours would be one mapping if they had the same protection, as far as /proc tells."""
    return (
        (lower.shared, lower.device, lower.inode) == (upper.shared, upper.device, upper.inode)
        and (lower.path, lower.kind) == (upper.path, upper.kind)
        and (lower.inode == 0 or lower.offset - lower.start == upper.offset - upper.start)
    )


def sealed(mapping: "Mapping", start: int, stop: int) -> Refusal:
    """A sealed mapping.

    >>> from memprot import Mapping
    >>> from memprot.diagnosis.walk import sealed
    >>> sealed(Mapping(0x1000, 0x2000, "r--"), 0x1000, 0x2000).hint
    'a sealed mapping stays as it is until the process ends'
    """
    return Refusal(
        errno.EPERM,
        Reason.SEALED,
        f"{named(mapping)} is sealed (mseal)",
        "a sealed mapping stays as it is until the process ends",
        start,
        stop,
        mapping,
    )


def _not_growing(mapping: "Mapping", prot: int, start: int, stop: int) -> Refusal:
    flag, end = ("GROWSDOWN", "start") if prot & _GROWSDOWN else ("GROWSUP", "end")
    return Refusal(
        errno.EINVAL,
        Reason.NOT_GROWING,
        f"{flag} was given, and {named(mapping)} does not grow at its {end}",
        f"leave {flag} out",
        max(mapping.start, start),
        min(mapping.stop, stop),
        mapping,
    )


def _denied(mapping: "Mapping", wanted: int, implied: bool, start: int, stop: int) -> Refusal:
    said = "writable and executable at once" if wanted & _WRITE else "executable after it was not"
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
