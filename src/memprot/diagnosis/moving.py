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
    first_hole,
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
    address, old, new, flags = (word & _WORD for word in (address, old, new, flags))
    process = Process()
    stop = address + max(whole_pages(old), PAGE_SIZE)
    mapping = process.next_mapping(address)
    if number == errno.EINVAL:
        return _mremap_arguments(number, address, old, new, flags, new_address)
    if number == errno.EPERM:
        refusal = first_sealed(process, address, stop)
        if refusal is None and new_address is not None and flags & _REMAP_FIXED:
            refusal = first_sealed(process, new_address & _WORD, (new_address & _WORD) + whole_pages(new))
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
            return bad_argument(number, said, "move each mapping by itself")._replace(
                start=mapping.stop, stop=stop, mapping=mapping
            )
        return None if mapping is None else special_mapping(number, mapping, "grow or move")
    if number == errno.EAGAIN:
        return lock_limit(process, whole_pages(new) - whole_pages(old), number)
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
        return bad_argument(number, "FIXED and DONTUNMAP move memory, and MAYMOVE is missing", "add RemapFlag.MAYMOVE")
    if address % PAGE_SIZE:
        return misaligned(address)
    if new == 0 or whole_pages(new) > _WORD:
        return no_length(number) if new == 0 else wraps(address, new, number)
    if flags & _DONTUNMAP and whole_pages(old) != whole_pages(new):
        return bad_argument(
            number, "DONTUNMAP moves memory without resizing it, and the sizes differ", "give the same size"
        )
    target = None if new_address is None or not flags & (_REMAP_FIXED | _DONTUNMAP) else new_address & _WORD
    if target is not None:
        if target % PAGE_SIZE:
            return misaligned(target, "new address")
        if ends_outside(target, new):
            return outside(number, target, new)
        if target < address + whole_pages(old) and address < target + whole_pages(new):
            return bad_argument(
                number, f"the old range and the new one at {target:#x} overlap", "choose another new address"
            )
    if ends_outside(0, new):
        return outside(number, 0, new)
    if old == 0:
        return bad_argument(number, "only shared memory can be mapped a second time (old size 0)", "give the old size")
    mapping = Process().next_mapping(address)
    if mapping is None or mapping.start > address:
        return None
    return special_mapping(number, mapping, "be moved that way")


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
