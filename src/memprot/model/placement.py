"""Where a new mapping goes."""

from errno import EINVAL, ENOMEM, EPERM
from typing import TYPE_CHECKING

from memprot.flags import MapFlag
from memprot.model.bits import PAGE
from memprot.model.mappings import start_gap
from memprot.model.refusal import RefusalError
from memprot.reason import Reason

if TYPE_CHECKING:
    from memprot.model.memory import Memory

__all__ = ["place", "wanted"]

_FIXED = int(MapFlag.FIXED)
_MAP_32BIT = 0x40
_ABOVE4G = 0x80
_HUGE = 2 << 20
_WINDOW = (1 << 47) - PAGE
_LOW = (0x40000000, 0x80000000)


def wanted(memory: "Memory", address: int) -> int:
    """The wish that is left of an address given to mmap: whole pages, and not below the lowest allowed.

    Source: round_hint_to_min, mm/mmap.c.

    >>> from memprot.model.memory import Memory
    >>> from memprot.model.placement import wanted
    >>> hex(wanted(Memory(), 0x1234)), wanted(Memory(), 0x234)
    ('0x10000', 0)
    """
    address &= -PAGE
    if address and address < memory.limits.mmap_min_addr:
        return -(-memory.limits.mmap_min_addr // PAGE) * PAGE
    return address


def place(memory: "Memory", address: int, length: int, flags: int, plain: bool = True) -> int:
    """Where a mapping of ``length`` bytes goes: at the address if it is fixed or free there, else highest.

    :param address: whole pages; 0 for no wish.
    :param flags: those of mmap(2).
    :param plain: whether it is private memory without a file: large pieces of it are aligned to 2 MiB, so that
        transparent huge pages fit.
    :raises RefusalError: when nothing fits, or the address is out of bounds.

    Source: __get_unmapped_area, mm/mmap.c; arch_get_unmapped_area_topdown, arch/x86/kernel/sys_x86_64.c;
    __thp_get_unmapped_area, mm/huge_memory.c; cap_mmap_addr, security/commoncap.c.

    >>> from memprot.model.memory import Memory
    >>> from memprot.model.placement import place
    >>> hex(place(Memory(), 0, 4096, flags=0))
    '0x7ffff7ffe000'
    """
    if length > memory.end:
        raise RefusalError(ENOMEM, Reason.OUTSIDE)
    if not flags & _FIXED:
        found = None
        if plain and not address and not length % _HUGE:
            found = _aligned(memory, length, flags)
        address = _free(memory, address, length, flags) if found is None else found
    if address > memory.end - length:
        raise RefusalError(ENOMEM, Reason.OUTSIDE, address, address + length)
    if address % PAGE:
        raise RefusalError(EINVAL, Reason.MISALIGNED)
    if address < memory.limits.mmap_min_addr:
        raise RefusalError(EPERM, Reason.NOT_PERMITTED, address, memory.limits.mmap_min_addr)
    return address


def _free(memory: "Memory", address: int, length: int, flags: int) -> int:
    if flags & _MAP_32BIT:
        return _bottom_up(memory, address, length)
    if address and memory.end - length >= address and (address > _WINDOW) == (address + length > _WINDOW):
        mapping = memory.mappings.find(address)
        if mapping is None or address + length <= start_gap(mapping):
            return address
    high = memory.mmap_base + (memory.end - _WINDOW if address > _WINDOW else 0)
    low = 1 << 32 if flags & _ABOVE4G else PAGE
    found = memory.mappings.highest_gap(length, low, high)
    if found is None:
        # The kernel tries from the bottom, a third of the way up, when the part below mmap_base is full.
        found = memory.mappings.lowest_gap(length, -(-memory.end // 3 // PAGE) * PAGE, min(memory.end, _WINDOW))
    if found is None:
        raise RefusalError(ENOMEM, Reason.OUT_OF_MEMORY)
    return found


def _bottom_up(memory: "Memory", address: int, length: int) -> int:
    low, high = _LOW
    if length > high:
        raise RefusalError(ENOMEM, Reason.OUT_OF_MEMORY)
    if address:
        mapping = memory.mappings.find(address)
        if high - length >= address and (mapping is None or address + length <= start_gap(mapping)):
            return address
    found = memory.mappings.lowest_gap(length, low, high)
    if found is None:
        raise RefusalError(ENOMEM, Reason.OUT_OF_MEMORY)
    return found


def _aligned(memory: "Memory", length: int, flags: int) -> int | None:
    """A place whose address is a multiple of 2 MiB, if there is room for moving it there."""
    try:
        found = _free(memory, 0, length + _HUGE, flags)
    except RefusalError:
        return None
    # An end that is aligned already is used up to the top (off_sub in the source).
    return found + (-found % _HUGE or _HUGE)
