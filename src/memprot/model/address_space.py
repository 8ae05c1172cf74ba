"""The address space of one process: the calls, as a program makes them."""

from errno import EINVAL, EPERM
from typing import TYPE_CHECKING

from memprot.errors import ProtectionError
from memprot.model.access import Access, access
from memprot.model.advice import advise
from memprot.model.bits import WORD
from memprot.model.file import File
from memprot.model.forking import fork
from memprot.model.heap import set_break
from memprot.model.keys import Thread
from memprot.model.limits import Limits
from memprot.model.locking import lock, seal, unlock
from memprot.model.mapping_calls import map_pages, unmap
from memprot.model.memory import Memory
from memprot.model.page_tables import Walk
from memprot.model.protection import protect
from memprot.model.refusal import RefusalError
from memprot.model.remapping import remap
from memprot.model.text import maps_text
from memprot.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memprot.model.mapping import Mapping

__all__ = ["AddressSpace"]


def _word(value: int, name: str) -> int:
    """A machine word: what fits in 64 bits, signed or unsigned."""
    if type(value) is int and 0 <= value < WORD:
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not -(1 << 63) <= value < WORD:
        raise OverflowError(f"{name} does not fit in 64 bits, signed or unsigned: {value}")
    return int(value) % WORD


def _signed(value: int, name: str) -> int:
    """A C int: the low 32 bits of a word."""
    low = _word(value, name) & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def _error(refusal: RefusalError, call: str, *arguments: object) -> ProtectionError:
    error = ProtectionError(refusal.number, call, arguments)
    error.reason = refusal.reason
    error.start = refusal.start
    error.stop = refusal.stop
    error.applied = refusal.applied
    return error


class AddressSpace:
    """A process's memory as Linux 6.18 on x86-64 would keep it, with nothing of this process's own touched.

    :param max_map_count: the most mappings (vm.max_map_count).
    :param levels: of the page tables: 4, or 5 for addresses of 57 bits.
    :param keys: how many protection keys the processor has: 16 or 0.
    :param brk: where the heap begins; None for a usual place.
    :param mmap_min_addr: the lowest address that may be mapped (vm.mmap_min_addr); 0 for a privileged process.
    :param mmap_base: below which mappings without a wanted address are placed.
    :param memlock: RLIMIT_MEMLOCK in bytes; None for no limit, as for a privileged process. In the same way
        ``address_space`` (RLIMIT_AS), ``data`` (RLIMIT_DATA), ``stack`` (RLIMIT_STACK) and ``memory``, the
        machine's memory, of which a single request for more is refused.

    The calls take what their man pages say, in that order, as ints of up to 64 bits; a :class:`File` stands for
    a descriptor. They fail with :class:`memprot.ProtectionError` and the kernel's errno, and then have applied
    what the kernel would have: ``.applied`` names it. ``TypeError`` for an argument that is no int,
    ``OverflowError`` for one beyond 64 bits.

    :ivar thread: the :class:`Thread` that makes the calls, and accesses memory when no other is named.

    Source: mmap(2), mprotect(2), pkeys(7), mremap(2), madvise(2), mlock(2), mseal(2), brk(2); mm/ of the kernel.

    >>> from memprot import Prot, ProtectionError
    >>> from memprot.flags import MapFlag
    >>> from memprot.model import AddressSpace
    >>> space = AddressSpace()
    >>> start = space.mmap(0x100000, 8192, Prot("rw-"), MapFlag.PRIVATE | MapFlag.ANONYMOUS)
    >>> try:
    ...     space.mprotect(start, 3 * 4096, Prot("r--"))
    ... except ProtectionError as error:
    ...     print(error.reason, hex(error.start), error.applied == ((start, start + 8192),))
    hole 0x102000 True
    """

    __slots__ = ("_memory",)

    def __init__(
        self,
        max_map_count: int = 65530,
        levels: int = 4,
        keys: int = 16,
        brk: int | None = None,
        mmap_min_addr: int = 65536,
        mmap_base: int = 0x7FFFF7FFF000,
        memlock: int | None = None,
        address_space: int | None = None,
        data: int | None = None,
        stack: int | None = 8 << 20,
        memory: int | None = None,
    ) -> None:
        limits = Limits(max_map_count, mmap_min_addr, memlock, address_space, data, stack, memory)
        self._memory = Memory(limits, levels, keys, 0x555555559000 if brk is None else brk, mmap_base)

    def mmap(self, addr: int, length: int, prot: int, flags: int, fd: "File | int" = -1, offset: int = 0) -> int:
        """Map a file or fresh memory; the address of the mapping.

        :param fd: a :class:`File`; a number stands for a descriptor that is not open.
        """
        file = fd if isinstance(fd, File) else None
        if file is None:
            _signed(fd, "fd")  # type: ignore[arg-type]
        try:
            return map_pages(
                self._memory,
                _word(addr, "addr"),
                _word(length, "length"),
                _word(prot, "prot"),
                _word(flags, "flags"),
                file,
                _word(offset, "offset"),
            )
        except RefusalError as refusal:
            number = -1 if file is None else 0
            raise _error(refusal, "mmap", addr, length, prot, flags, number, offset) from None

    def munmap(self, addr: int, length: int) -> None:
        """Remove whatever is mapped in the range."""
        try:
            unmap(self._memory, _word(addr, "addr"), _word(length, "length"))
        except RefusalError as refusal:
            raise _error(refusal, "munmap", addr, length) from None

    def mprotect(self, addr: int, length: int, prot: int) -> None:
        """Change the protection of the range."""
        try:
            protect(self._memory, _word(addr, "addr"), _word(length, "length"), _word(prot, "prot"))
        except RefusalError as refusal:
            raise _error(refusal, "mprotect", addr, length, prot) from None

    def pkey_mprotect(self, addr: int, length: int, prot: int, pkey: int) -> None:
        """Change the protection of the range and its protection key; -1 keeps the keys."""
        try:
            protect(
                self._memory,
                _word(addr, "addr"),
                _word(length, "length"),
                _word(prot, "prot"),
                _signed(pkey, "pkey"),
            )
        except RefusalError as refusal:
            raise _error(refusal, "pkey_mprotect", addr, length, prot, pkey) from None

    def madvise(self, addr: int, length: int, advice: int) -> None:
        """Advise the kernel about the range; installs and removes guard pages too."""
        try:
            advise(self._memory, _word(addr, "addr"), _word(length, "length"), _signed(advice, "advice"))
        except RefusalError as refusal:
            raise _error(refusal, "madvise", addr, length, advice) from None

    def mlock(self, addr: int, length: int) -> None:
        """Lock the pages of the range into memory, bringing them in."""
        try:
            lock(self._memory, _word(addr, "addr"), _word(length, "length"))
        except RefusalError as refusal:
            raise _error(refusal, "mlock", addr, length) from None

    def munlock(self, addr: int, length: int) -> None:
        """Unlock the pages of the range."""
        try:
            unlock(self._memory, _word(addr, "addr"), _word(length, "length"))
        except RefusalError as refusal:
            raise _error(refusal, "munlock", addr, length) from None

    def mseal(self, addr: int, length: int, flags: int = 0) -> None:
        """Forbid every further change to the mappings of the range, for the life of the process."""
        try:
            seal(self._memory, _word(addr, "addr"), _word(length, "length"), _word(flags, "flags"))
        except RefusalError as refusal:
            raise _error(refusal, "mseal", addr, length, flags) from None

    def mlock2(self, addr: int, length: int, flags: int) -> None:
        """As :meth:`mlock`; with flag 1 (MLOCK_ONFAULT) pages are locked as they come in."""
        try:
            lock(self._memory, _word(addr, "addr"), _word(length, "length"), _word(flags, "flags"))
        except RefusalError as refusal:
            raise _error(refusal, "mlock2", addr, length, flags) from None

    def mremap(self, addr: int, old_length: int, new_length: int, flags: int = 0, new_addr: int | None = None) -> int:
        """Make a mapping longer or shorter, or move it; its address.

        :param flags: MREMAP_MAYMOVE (1), MREMAP_FIXED (2), MREMAP_DONTUNMAP (4).
        :param new_addr: where to, with MREMAP_FIXED; a wish with MREMAP_DONTUNMAP.
        """
        target = 0 if new_addr is None else new_addr
        try:
            return remap(
                self._memory,
                _word(addr, "addr"),
                _word(old_length, "old_length"),
                _word(new_length, "new_length"),
                _word(flags, "flags"),
                _word(target, "new_addr"),
            )
        except RefusalError as refusal:
            raise _error(refusal, "mremap", addr, old_length, new_length, flags, target) from None

    def brk(self, addr: int = 0) -> int:
        """Move the end of the heap, if that is possible; where it is afterwards. This is the system call: no errno."""
        return set_break(self._memory, _word(addr, "addr"))

    def pkey_alloc(self, flags: int = 0, rights: int = 0) -> int:
        """Allocate a protection key with these rights for the calling thread; its number."""
        memory = self._memory
        try:
            return memory.keys.allocate(_word(flags, "flags"), _word(rights, "rights"), memory.thread)
        except RefusalError as refusal:
            raise _error(refusal, "pkey_alloc", flags, rights) from None

    def pkey_free(self, pkey: int) -> None:
        """Give a protection key back; mappings that carry it go on doing so."""
        try:
            self._memory.keys.free(_signed(pkey, "pkey"))
        except RefusalError as refusal:
            raise _error(refusal, "pkey_free", pkey) from None

    def set_mdwe(self, bits: int) -> None:
        """prctl(PR_SET_MDWE): deny memory that is writable and executable, or becomes executable; for good.

        :param bits: PR_MDWE_REFUSE_EXEC_GAIN (1), PR_MDWE_NO_INHERIT (2).
        """
        held = self._memory.deny_write_execute
        value = _word(bits, "bits")
        if value & ~3 or value == 2:
            raise _error(RefusalError(EINVAL, Reason.UNKNOWN_FLAGS), "set_mdwe", bits)
        if held and held != value:
            raise _error(RefusalError(EPERM, Reason.DENY_WRITE_EXECUTE), "set_mdwe", bits)
        self._memory.deny_write_execute = value

    def get_mdwe(self) -> int:
        """prctl(PR_GET_MDWE): what :meth:`set_mdwe` set."""
        return self._memory.deny_write_execute

    def personality(self, bits: int) -> int:
        """Set the execution domain, of which only READ_IMPLIES_EXEC (0x0400000) matters here; the one before.

        0xffffffff changes nothing.
        """
        before = self._memory.persona
        value = _word(bits, "bits") & 0xFFFFFFFF
        if value != 0xFFFFFFFF:
            self._memory.persona = value
        return before

    def fork(self) -> "AddressSpace":
        """The address space of a child process. A child sees the same :class:`File` objects."""
        child = AddressSpace.__new__(AddressSpace)
        child._memory = fork(self._memory)
        return child

    def new_thread(self) -> Thread:
        """A thread that the calling one starts: it inherits its rights for protection keys."""
        return Thread(self._memory.thread)

    def access(self, address: int, kind: str, thread: Thread | None = None) -> Access:
        """What happens when a byte is read, written or executed ("read", "write", "execute").

        A page that is allowed but not there yet comes in, as it does in the kernel, and a stack may grow.

        :raises ValueError: for another kind.
        """
        memory = self._memory
        return access(memory, _word(address, "address"), kind, memory.thread if thread is None else thread)

    def walk(self, address: int) -> Walk:
        """The walk through the page tables to the page of an address; changes nothing."""
        memory = self._memory
        address = _word(address, "address")
        return memory.tables.walk(address, memory.mappings.at(address), memory.levels)

    def maps(self) -> str:
        """What /proc/PID/maps would show."""
        return maps_text(self._memory)

    @property
    def mappings(self) -> "Sequence[Mapping]":
        """The mappings by rising address; they are the space's own and must not be changed."""
        return self._memory.mappings

    @property
    def thread(self) -> Thread:
        return self._memory.thread

    @thread.setter
    def thread(self, thread: Thread) -> None:
        self._memory.thread = thread
