"""What happens when the processor reads, writes or executes: the page fault, and the signal when it fails."""

from errno import EFAULT
from signal import Signals
from typing import TYPE_CHECKING, NamedTuple

from memprot.model.bits import (
    PAGE,
    PAGE_SHIFT,
    VM_ACCESS,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_PKEY,
    VM_PKEY_SHIFT,
    VM_SHARED,
    VM_WRITE,
)
from memprot.model.mappings import STACK_GUARD_GAP
from memprot.model.merging import prepare_anon_vma
from memprot.model.page_tables import ACCESSED, DIRTY, GUARD, INHERITED, OWN, PRESENT
from memprot.model.refusal import RefusalError
from memprot.reason import Reason

if TYPE_CHECKING:
    from memprot.model.keys import Thread
    from memprot.model.mapping import Mapping
    from memprot.model.memory import Memory

__all__ = ["KINDS", "Access", "access", "populate", "populate_mapping"]

KINDS = ("read", "write", "execute")


class Access(NamedTuple):
    """How an access ended.

    :ivar ok: whether it was allowed.
    :ivar signal: SIGSEGV or SIGBUS, or None.
    :ivar code: the si_code by its name: SEGV_MAPERR (nothing there, or a guard page), SEGV_ACCERR (the protection
        forbids it), SEGV_PKUERR (the protection key does), BUS_ADRERR (beyond the end of the file), SI_KERNEL (no
        address at all); None when it was allowed.
    :ivar key: the protection key that forbade it; None otherwise.

    Source: sigaction(2); arch/x86/mm/fault.c.

    >>> from memprot.model import AddressSpace
    >>> AddressSpace().access(0, "read")
    Access(ok=False, signal=<Signals.SIGSEGV: 11>, code='SEGV_MAPERR', key=None)
    """

    ok: bool
    signal: Signals | None = None
    code: str | None = None
    key: int | None = None


_ALLOWED = Access(True)
_NOTHING_THERE = Access(False, Signals.SIGSEGV, "SEGV_MAPERR")
_FORBIDDEN = Access(False, Signals.SIGSEGV, "SEGV_ACCERR")
_BEYOND_THE_FILE = Access(False, Signals.SIGBUS, "BUS_ADRERR")
_NO_ADDRESS = Access(False, Signals.SIGSEGV, "SI_KERNEL")


def access(memory: "Memory", address: int, kind: str, thread: "Thread") -> Access:
    """One byte read, written or executed by a thread.

    Source: do_user_addr_fault and access_error, arch/x86/mm/fault.c; handle_mm_fault, mm/memory.c.

    >>> from memprot.model.access import access
    >>> from memprot.model.memory import Memory
    >>> memory = Memory()
    >>> access(memory, 1 << 62, "write", memory.thread).code
    'SI_KERNEL'
    """
    if kind not in KINDS:
        raise ValueError(f"an access is one of {', '.join(KINDS)}, not {kind!r}")
    half = memory.end + PAGE
    if half <= address < 2**64 - half:
        return _NO_ADDRESS
    mapping = memory.mappings.find(address)
    if mapping is None or (mapping.start > address and not _grow(memory, mapping, address)):
        return _NOTHING_THERE
    flags = mapping.flags
    write = kind == "write"
    if kind != "execute":
        key = (flags & VM_PKEY) >> VM_PKEY_SHIFT
        if memory.keys.number and not thread.allows(key, write):
            return Access(False, Signals.SIGSEGV, "SEGV_PKUERR", key)
    if write:
        if not flags & VM_WRITE:
            return _FORBIDDEN
    elif not flags & VM_ACCESS:
        return _FORBIDDEN
    failed = _fault(memory, mapping, address, write)
    if failed is not None:
        return failed
    # The page comes in as for a read; then the processor finds that it may not be executed.
    if kind == "execute" and not flags & VM_EXEC:
        return _FORBIDDEN
    return _ALLOWED


def _fault(memory: "Memory", mapping: "Mapping", address: int, write: bool) -> Access | None:
    """Bring a page in, or make a private copy of it; what goes wrong with that."""
    page = address >> PAGE_SHIFT
    bits = memory.tables.get(page)
    if bits & GUARD:
        return _NOTHING_THERE
    file = mapping.file
    if not bits and file is not None and mapping.page_offset(address) >= file.pages:
        if write and not mapping.flags & VM_SHARED:
            # The kernel prepares for the copy before it looks for the page.
            prepare_anon_vma(mapping)
        return _BEYOND_THE_FILE
    if not write:
        bits |= PRESENT | ACCESSED
    elif mapping.flags & VM_SHARED:
        bits |= PRESENT | ACCESSED | DIRTY
    else:
        prepare_anon_vma(mapping)
        bits = (bits | PRESENT | ACCESSED | DIRTY | OWN) & ~INHERITED
    memory.tables.set(page, bits)
    return None


def _grow(memory: "Memory", mapping: "Mapping", address: int) -> bool:
    """Let a stack grow down to an address (expand_downwards, mm/vma.c)."""
    if not mapping.flags & VM_GROWSDOWN:
        return False
    address &= -PAGE
    if address < max(memory.limits.mmap_min_addr, PAGE):
        return False
    below = mapping.previous
    if (
        below is not None
        and not below.flags & VM_GROWSDOWN
        and below.flags & VM_ACCESS
        and address - below.stop < STACK_GUARD_GAP
    ):
        return False
    prepare_anon_vma(mapping)
    grown = (mapping.start - address) >> PAGE_SHIFT
    limits, usage = memory.limits, memory.usage
    if (
        grown > mapping.pgoff
        or (limits.stack is not None and mapping.stop - address > limits.stack)
        or not usage.may_expand(mapping.flags, grown)
        or not usage.may_lock(mapping.flags, grown)
    ):
        return False
    mapping.pgoff -= grown
    memory.mappings.set_start(mapping, address)
    usage.account(mapping.flags, grown)
    if mapping.flags & VM_LOCKED:
        usage.locked += grown
    return True


def populate(memory: "Memory", start: int, stop: int, lenient: bool = False) -> None:
    """Bring in all pages of a range, as mlock and MAP_POPULATE do: privately writable ones as if written.

    :param lenient: whether to go on with the next mapping where it fails; otherwise it stops there.
    :raises RefusalError: for the first page that cannot be brought in.

    Source: __mm_populate and populate_vma_page_range, mm/gup.c.

    >>> from memprot.model.access import populate
    >>> from memprot.model.mapping_calls import map_pages
    >>> from memprot.model.memory import Memory
    >>> memory = Memory()
    >>> _ = map_pages(memory, 0x10000, 8192, prot=3, flags=0x32, file=None, offset=0)
    >>> populate(memory, 0x10000, 0x12000)
    >>> memory.mappings[0].anon_vma is None
    False
    """
    mapping = memory.mappings.find(start)
    while mapping is not None and mapping.start < stop:
        try:
            populate_mapping(memory, mapping, max(start, mapping.start), min(stop, mapping.stop))
        except RefusalError:
            if not lenient:
                raise
        mapping = mapping.next


def populate_mapping(memory: "Memory", mapping: "Mapping", start: int, stop: int, write: bool | None = None) -> None:
    """The part of :func:`populate` that lies in one mapping.

    :param write: whether as if written; None for what fits the mapping.

    Source: populate_vma_page_range, mm/gup.c.

    >>> from memprot.model.access import populate_mapping
    >>> from memprot.model.mapping import Mapping
    >>> from memprot.model.memory import Memory
    >>> populate_mapping(Memory(), Mapping(0x1000, 0x2000, 0, 1), 0x1000, 0x1000)
    """
    flags = mapping.flags
    if write is None:
        if flags & VM_LOCKONFAULT:
            return
        write = flags & (VM_WRITE | VM_SHARED) == VM_WRITE
    key = (flags & VM_PKEY) >> VM_PKEY_SHIFT
    forbidden = not flags & VM_ACCESS or (memory.keys.number and not memory.thread.allows(key, write))
    if forbidden and start < stop:
        raise RefusalError(EFAULT, Reason.BAD_ARGUMENT, start, stop)
    for address in range(start, stop, PAGE):
        if _fault(memory, mapping, address, write) is not None:
            raise RefusalError(EFAULT, Reason.BAD_ARGUMENT, address, address + PAGE)
