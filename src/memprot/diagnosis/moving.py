"""Why memory could not be moved or resized: mremap."""

import errno

from memprot.diagnosis.limits import address_space_limit, data_limit, lock_limit, mapping_limit, overcommit
from memprot.diagnosis.place import named, span
from memprot.diagnosis.placing import first_sealed
from memprot.diagnosis.process import Process, max_map_count
from memprot.diagnosis.range import (
    bad_argument,
    beyond_the_last,
    ends_outside,
    mapped_parts,
    misaligned,
    no_length,
    outside,
    special_mapping,
    whole_pages,
    wraps,
)
from memprot.diagnosis.refusal import Refusal
from memprot.diagnosis.unseen import out_of_memory, refused_by_policy
from memprot.prot import PAGE_SIZE, Prot
from memprot.reason import Reason

__all__ = ["mremap_cause"]

_WORD = 2**64 - 1
_SLACK = 8
_MAYMOVE, _REMAP_FIXED, _DONTUNMAP = 1, 2, 4
# mremap makes sure that it can undo what it began: mm/mremap.c.
_REMAP_MARGIN = 6


def mremap_cause(
    number: int, address: int, old: int, new: int, flags: int = 0, new_address: int | None = None
) -> Refusal | None:
    """The cause of a failed mremap.

    Source: mremap(2), mm/mremap.c.

    >>> import errno
    >>> from memprot.diagnosis.moving import mremap_cause
    >>> mremap_cause(errno.EFAULT, 0, 4096, 4096).reason
    <Reason.HOLE: 'hole'>
    """
    address, old, new, flags, target = (word & _WORD for word in (address, old, new, flags, new_address or 0))
    process = Process()
    if number == errno.EINVAL:
        refusal = _wrong_arguments(number, address, old, new, flags, target)
        return refusal or _not_movable(process, number, address, old)
    old, new = whole_pages(old) & _WORD, whole_pages(new) & _WORD
    if number == errno.EPERM:
        return _sealed(process, address, old, new, flags, target)
    if number == errno.EFAULT:
        return _not_one_mapping(process, number, address, old, new)
    if number == errno.EAGAIN:
        return lock_limit(process, new - old, number)
    if number != errno.ENOMEM:
        return None
    return _no_room_to_move(process, address, old, new, flags)


def _wrong_arguments(number: int, address: int, old: int, new: int, flags: int, target: int) -> Refusal | None:
    """What is wrong with the numbers, in the order in which the kernel looks at them."""
    if unknown := flags & ~(_MAYMOVE | _REMAP_FIXED | _DONTUNMAP):
        return Refusal(
            number, Reason.UNKNOWN_FLAGS, f"mremap knows no flags {unknown:#x}", "use memprot.calls.RemapFlag"
        )
    if address % PAGE_SIZE:
        return misaligned(address)
    if new == 0 or whole_pages(new) > _WORD:
        return no_length(number) if new == 0 else wraps(address, new, number)
    if ends_outside(0, new):
        return outside(number, 0, new)
    old, new = whole_pages(old) & _WORD, whole_pages(new)
    if flags & (_REMAP_FIXED | _DONTUNMAP):
        refusal = _wrong_target(number, address, old, new, flags, target)
        if refusal is not None:
            return refusal
    if old > new and ends_outside(address + new, old - new):
        return outside(number, address, old)
    return None


def _wrong_target(number: int, address: int, old: int, new: int, flags: int, target: int) -> Refusal | None:
    if ends_outside(target, new):
        return outside(number, target, new)
    if target % PAGE_SIZE:
        return misaligned(target, "new address")
    if not flags & _MAYMOVE:
        return bad_argument(number, "FIXED and DONTUNMAP move memory, and MAYMOVE is missing", "add RemapFlag.MAYMOVE")
    if flags & _DONTUNMAP and old != new:
        return bad_argument(
            number, "DONTUNMAP moves memory without resizing it, and the sizes differ", "give the same size"
        )
    if target < (address + old) & _WORD and address < target + new:
        return bad_argument(
            number, f"the old range and the new one at {target:#x} overlap", "choose another new address"
        )
    return None


def _not_movable(process: Process, number: int, address: int, old: int) -> Refusal | None:
    mapping = process.next_mapping(address)
    if mapping is None or mapping.start > address:
        return None
    if old == 0:
        said = f"old size 0 maps shared memory a second time, and {named(mapping)} is private"
        return Refusal(number, Reason.SPECIAL_MAPPING, said, "give the old size", mapping.start, mapping.stop, mapping)
    return special_mapping(number, mapping, "be moved that way")


def _sealed(process: Process, address: int, old: int, new: int, flags: int, target: int) -> Refusal:
    """The first sealed mapping, where the memory is or where it goes, and what had been moved before."""
    if flags & _REMAP_FIXED and old == new:
        return _sealed_among_several(process, address, old, flags, target) or _by_policy(process)
    here = first_sealed(process, address, address + PAGE_SIZE)
    if here is not None and here.mapping is not None:
        return here._replace(stop=min(here.mapping.stop, address + max(old, PAGE_SIZE)))
    there = first_sealed(process, target, target + new) if flags & _REMAP_FIXED else None
    return there or first_sealed(process, address + new, address + old) or _by_policy(process)


def _sealed_among_several(process: Process, address: int, size: int, flags: int, target: int) -> Refusal | None:
    """One mapping after the other is moved, and what is where it goes is unmapped just before that."""
    distance, at = target - address, address
    while at < address + size and (mapping := process.next_mapping(at)) is not None:
        start, stop = max(mapping.start, at), min(mapping.stop, address + size)
        refusal = first_sealed(process, start, stop) or first_sealed(process, start + distance, stop + distance)
        if refusal is not None:
            moved = _moved(process, address, start, 0 if flags & _DONTUNMAP else distance)
            return refusal._replace(applied=moved)
        at = mapping.stop
    return None


def _by_policy(process: Process) -> Refusal:
    return refused_by_policy(process, errno.EPERM, "nothing in the range is sealed")


def _moved(process: Process, start: int, stop: int, distance: int) -> tuple[tuple[int, int], ...]:
    """The parts of a range that lie so far away by now.

    Where a hole was before, what lay at its new place counts as moved: nothing tells it from what was.
    """
    parts = mapped_parts(process, start + distance, stop + distance)
    return tuple((begin - distance, end - distance) for begin, end in parts)


def _not_one_mapping(process: Process, number: int, address: int, old: int, new: int) -> Refusal | None:
    """The hole, or the other mapping, that the range meets."""
    mapping = process.next_mapping(address)
    needed = min(old, new) if mapping is not None and mapping.start <= address else old
    stop = address + max(needed, PAGE_SIZE)
    if mapping is None or mapping.start > address or (mapping.stop < stop and not process.holds(mapping.stop)):
        start = address if mapping is None or mapping.start > address else mapping.stop
        above = process.next_mapping(start)
        place = start, stop if above is None else min(stop, above.start)
        return Refusal(
            number,
            Reason.OUTSIDE if beyond_the_last(start) else Reason.HOLE,
            f"nothing is mapped at {span(*place)}",
            "map it first, or leave it out; memprot.AddressSpace lists what is mapped",
            *place,
        )
    if mapping.stop < stop:
        said = f"{span(address, stop)} goes beyond {named(mapping)}, and only whole mappings are moved together"
        return bad_argument(number, said, "move each mapping by itself")._replace(
            start=mapping.stop, stop=stop, mapping=mapping
        )
    return special_mapping(number, mapping, "grow or move")


def _no_room_to_move(process: Process, address: int, old: int, new: int, flags: int) -> Refusal:
    growth = whole_pages(new) - whole_pages(old)
    mapping = process.next_mapping(address)
    if growth > 0 and not flags & _MAYMOVE:
        beyond = process.next_mapping(address + whole_pages(old))
        if beyond is not None and beyond.start < address + whole_pages(new):
            return Refusal(
                errno.ENOMEM,
                Reason.OCCUPIED,
                f"{named(beyond)} is in the way of growing",
                "add RemapFlag.MAYMOVE, so that the memory may be moved",
                max(beyond.start, address + whole_pages(old)),
                min(beyond.stop, address + whole_pages(new)),
                beyond,
            )
    if (count := process.mapping_count()) >= max_map_count() - _REMAP_MARGIN - _SLACK:
        return mapping_limit(count, _REMAP_MARGIN)
    size = growth if not flags & _DONTUNMAP else whole_pages(new)
    private = mapping is not None and not mapping.shared and bool(mapping.prot & Prot.WRITE)
    refusal = address_space_limit(process, size)
    if refusal is None and private:
        refusal = data_limit(process, size) or overcommit(size)
    return refusal or out_of_memory("limits leave room for it")
