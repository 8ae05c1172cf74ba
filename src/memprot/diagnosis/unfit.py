"""Which mapping does not take which advice."""

import errno
from typing import TYPE_CHECKING

from memprot.diagnosis.place import amount, named
from memprot.diagnosis.process import own_huge_page
from memprot.diagnosis.refusal import Refusal
from memprot.diagnosis.walk import sealed
from memprot.flags import Advice
from memprot.prot import PAGE_SIZE, Prot
from memprot.reason import Reason

if TYPE_CHECKING:
    from memprot._native import Mapping
    from memprot.diagnosis.process import Process

__all__ = ["POPULATE", "unfit"]

POPULATE = {int(Advice.POPULATE_READ), int(Advice.POPULATE_WRITE)}
# Letters of VmFlags: "lo" locked, "ht" huge pages, "dp" droppable; these four are what only the kernel manages.
_SPECIAL = frozenset({"io", "de", "pf", "mm"})
_REFUSED_BY: "dict[int, frozenset[str]]" = {
    Advice.DONTNEED: frozenset({"lo", "pf"}),
    Advice.DONTNEED_LOCKED: frozenset({"pf"}),
    Advice.FREE: frozenset({"lo", "pf", "ht"}),
    Advice.COLD: frozenset({"lo", "pf", "ht"}),
    Advice.PAGEOUT: frozenset({"lo", "pf", "ht"}),
    Advice.REMOVE: frozenset({"lo"}),
    Advice.GUARD_INSTALL: _SPECIAL | {"lo", "ht"},
    Advice.GUARD_REMOVE: _SPECIAL | {"ht"},
    Advice.DOFORK: frozenset({"io"}),
    Advice.DODUMP: _SPECIAL | {"dp"},
    Advice.KEEPONFORK: frozenset({"dp"}),
    Advice.COLLAPSE: _SPECIAL | {"ht", "nh"},
}
# What may take away what memory holds; sealed memory that could not be written either keeps it.
_DISCARDING = {
    Advice.DONTNEED,
    Advice.DONTNEED_LOCKED,
    Advice.FREE,
    Advice.REMOVE,
    Advice.DONTFORK,
    Advice.WIPEONFORK,
    Advice.GUARD_INSTALL,
}


def unfit(process: "Process", mapping: "Mapping", start: int, stop: int, advice: int) -> Refusal | None:
    """Why a mapping does not take an advice; None when nothing about it is in the way.

    :param start: where the part of it that was advised begins.
    :param stop: where it ends.

    Source: madvise_vma_behavior and can_madvise_modify in mm/madvise.c, check_vma_flags in mm/gup.c.

    >>> from memprot import AddressSpace, calls
    >>> from memprot.diagnosis.process import Process
    >>> from memprot.diagnosis.unfit import unfit
    >>> program = next(iter(AddressSpace()))
    >>> unfit(Process(), program, program.start, program.stop, calls.Advice.FREE).reason
    <Reason.SPECIAL_MAPPING: 'special_mapping'>
    """
    refusal = _refusal(process, mapping, advice, start, stop)
    return None if refusal is None else refusal._replace(start=start, stop=stop, mapping=mapping)


def _refusal(process: "Process", mapping: "Mapping", advice: int, start: int, stop: int) -> Refusal | None:
    if advice in POPULATE:
        return _untouchable(process, mapping, advice)
    flags = process.flags(mapping)
    if advice in _DISCARDING and "sl" in flags and not mapping.inode and not mapping.prot & Prot.WRITE:
        kept = sealed(mapping, start, stop)
        return kept._replace(explanation=f"{kept.explanation}, and this advice would discard what it holds")
    refused = flags & _REFUSED_BY.get(advice, frozenset())
    if "lo" in refused:
        said, hint = f"{named(mapping)} is locked into memory (mlock)", "unlock it first (munlock)"
        return Refusal(errno.EINVAL, Reason.LOCKED, said, hint)
    if advice == Advice.DONTNEED and "ht" in flags and start % process.huge_page_size(mapping):
        said = f"{named(mapping)} has pages of {amount(process.huge_page_size(mapping))}, and {start:#x} is within one"
        return Refusal(errno.EINVAL, Reason.SPECIAL_MAPPING, said, "begin where one of its pages begins")
    if refused or (advice == Advice.FREE and mapping.inode):
        return _of_another_kind(mapping)
    if advice == Advice.WIPEONFORK and (mapping.inode or mapping.shared):
        said = f"{named(mapping)} is of a file or shared, and only private memory without a file can be wiped"
        return Refusal(errno.EINVAL, Reason.SPECIAL_MAPPING, said, "leave it out, or clear it in the child")
    if advice == Advice.REMOVE:
        return _cannot_make_a_hole(mapping, flags)
    if advice == Advice.COLLAPSE and not _holds_a_huge_page(mapping):
        said = f"{named(mapping)} holds no whole huge page ({amount(own_huge_page())}), which the advice would make"
        return Refusal(errno.EINVAL, Reason.SPECIAL_MAPPING, said, "give it for larger mappings")
    return None


def _of_another_kind(mapping: "Mapping") -> Refusal:
    said = f"{named(mapping)} is of a kind that this advice is not for"
    return Refusal(errno.EINVAL, Reason.SPECIAL_MAPPING, said, "leave it out")


def _untouchable(process: "Process", mapping: "Mapping", advice: int) -> Refusal | None:
    verb, needed = ("written", Prot.WRITE) if advice == Advice.POPULATE_WRITE else ("read", Prot.READ)
    if not mapping.prot & needed:
        said = f"{named(mapping)} may not be {verb}, so its pages cannot be brought into memory that way"
        return Refusal(errno.EINVAL, Reason.SPECIAL_MAPPING, said, "change its protection first, or leave it out")
    if process.flags(mapping) & {"io", "pf"}:
        return _of_another_kind(mapping)
    return None


def _cannot_make_a_hole(mapping: "Mapping", flags: frozenset[str]) -> Refusal | None:
    if not mapping.inode:
        said = f"there is no file behind {named(mapping)} in which a hole could be made"
        return Refusal(errno.EINVAL, Reason.SPECIAL_MAPPING, said, "use Advice.DONTNEED")
    if not {"sh", "mw"} <= flags:
        said = f"only a shared and writable mapping can make a hole in a file, and {named(mapping)} is not"
        return Refusal(errno.EACCES, Reason.FILE_READ_ONLY, said, "map it shared and writable")
    return None


def _holds_a_huge_page(mapping: "Mapping") -> bool:
    size = own_huge_page()
    first = -(-mapping.start // size) * size
    return size > PAGE_SIZE and first + size <= mapping.stop
