"""Region: memory whose protection is yours, and whose accessors cannot kill the process."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

import memprot._native as _native
import memprot.calls as calls
from memprot.diagnosis.factory import diagnosed
from memprot.flags import Advice, MapFlag
from memprot.memory.array import array_over
from memprot.memory.sealing import seal
from memprot.prot import PAGE_SIZE, Prot, as_prot
from memprot.space.maps import AddressSpace

if TYPE_CHECKING:
    from types import TracebackType

    import numpy
    import numpy.typing

    from memprot.faults.policy import Policy
    from memprot.space.mapping import Mapping

Side = Literal["right", "left"]
Protection = Prot | str | int

_NO_POLICY: Final = 6  # as memprot._native.fault_policy numbers them
_SIDES: Final[dict[Side | None, int]] = {None: 0, "right": 1, "left": 2}


class Region(_native.Region):
    """Pages of your own, as a buffer of bytes.

    Indexing, slicing, :meth:`read` and :meth:`write` raise :class:`memprot.FaultError` where the protection forbids
    the access. Other code, such as a NumPy array over the Region, faults for real: see :class:`memprot.catch_faults`.

    A Region that is not shared is private after a fork, as plain memory is. ``len()`` is the size asked for; the rest
    of its last page belongs to nobody.

    :param size: bytes, at least 1.
    :param prot: a :class:`memprot.Prot`, ``"rw-"`` or a number.
    :param shared: whether forked children see and share later changes.
    :param name: shown in ``/proc/PID/maps`` where the kernel can name memory.
    :param huge: ask for huge pages (a wish, not a promise).
    :param policy: what happens to faults on it, before any scope is asked: see :attr:`policy`.
    :raises ValueError: no such size, protection or policy.
    :raises memprot.ProtectionError: the kernel has no such memory.

    Source: mmap(2), mprotect(2), memfd_create(2).

    >>> from memprot import Region
    >>> with Region(100) as region:
    ...     region[:5] = b"hello"
    ...     region.protect("r--")
    ...     region[0:5], str(region.prot)
    (b'hello', 'r--')
    """

    _policy: Policy | None = None

    def __init__(
        self,
        size: int,
        prot: Protection = "rw-",
        *,
        shared: bool = False,
        name: str | None = None,
        huge: bool = False,
        policy: Policy | None = None,
    ) -> None:
        self._map(size, prot, shared=shared, name=name, huge=huge, policy=policy)

    @classmethod
    def from_file(
        cls,
        file: str | os.PathLike[str] | BinaryIO,
        prot: Protection,
        *,
        shared: bool = True,
        offset: int = 0,
        size: int | None = None,
        policy: Policy | None = None,
    ) -> Region:
        """Map a file.

        :param file: a path, or an open file with a descriptor.
        :param prot: writing to a shared mapping needs a file that may be written.
        :param shared: writes reach the file; otherwise they stay private to the process.
        :param offset: bytes into the file, a multiple of the page size.
        :param size: bytes; the rest of the file by default.
        :param policy: what happens to faults on it: see :attr:`policy`. ``"log"`` needs a file that may be written,
            where it is shared.
        :raises ValueError: the offset or size does not fit the file, or the policy the way it is opened.
        :raises OSError: the file cannot be opened.
        :raises memprot.ProtectionError: the kernel refuses the mapping.

        >>> import tempfile
        >>> from memprot import Region
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     _ = file.write(b"content")
        ...     file.flush()
        ...     with Region.from_file(file.name, "r--") as region:
        ...         region[:]
        b'content'
        """
        wanted = as_prot(prot)
        if isinstance(file, (str, os.PathLike)):
            writing = shared and (bool(wanted & Prot.WRITE) or policy == "log")
            fd = os.open(file, (os.O_RDWR if writing else os.O_RDONLY) | os.O_CLOEXEC)
            try:
                return cls._from_descriptor(fd, wanted, shared, offset, size, policy)
            finally:
                os.close(fd)
        return cls._from_descriptor(file.fileno(), wanted, shared, offset, size, policy)

    @classmethod
    def _from_descriptor(
        cls, fd: int, prot: Prot, shared: bool, offset: int, size: int | None, policy: Policy | None
    ) -> Region:
        if policy == "log" and shared and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise ValueError('policy "log" lets writes happen, and the file is open for reading only; open it "r+b"')
        available = os.fstat(fd).st_size - offset
        if offset < 0 or offset % PAGE_SIZE:
            raise ValueError(f"offset {offset} is no multiple of the page size, {PAGE_SIZE}")
        size = available if size is None else size
        if size > available:
            raise ValueError(
                f"the file has {max(available, 0)} bytes from offset {offset} on, not {size}; extend it first"
            )
        self = cls.__new__(cls)
        self._map(size, prot, shared=shared, fd=fd, offset=offset, policy=policy)
        return self

    def _map(
        self,
        size: int,
        prot: Protection,
        *,
        shared: bool = False,
        name: str | None = None,
        huge: bool = False,
        side: Side | None = None,
        fd: int = -1,
        offset: int = 0,
        policy: Policy | None = None,
    ) -> None:
        number = _native.policy_number(policy) if policy is not None else _NO_POLICY
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"size must be an int, not {type(size).__name__}")
        if size < 1:
            raise ValueError(f"a Region needs at least one byte, not {size}")
        wanted = as_prot(prot)
        try:
            super().__init__(size, int(wanted), bool(shared), name, huge, _SIDES[side], fd, offset)
        except OSError as error:
            flags = (MapFlag.SHARED if shared else MapFlag.PRIVATE) | (MapFlag.ANONYMOUS if fd < 0 else 0)
            raise diagnosed(error.errno or 0, "mmap", (0, size, wanted, flags, fd, offset)) from None
        self._policy = policy
        if policy is not None:
            self.set_policy(number)

    @property
    def policy(self) -> Policy | None:
        """What happens to faults on it, as :func:`memprot.faults.set_policy` explains; None: what scopes say.

        :raises ValueError: no such policy, or the region is closed.
        :raises TypeError: neither a name nor a callable nor None.

        >>> from memprot import Region
        >>> region = Region(4096, policy="log")
        >>> view = memoryview(region)
        >>> region.protect("r--")
        >>> view[0] = 1
        >>> region[0]
        1
        """
        return self._policy

    @policy.setter
    def policy(self, policy: Policy | None) -> None:
        self.set_policy(_native.policy_number(policy) if policy is not None else _NO_POLICY)
        self._policy = policy

    @property
    def prot(self) -> Prot | None:
        """The protection of its pages; None when they differ.

        :raises ValueError: the region is closed.
        """
        number = self.protection
        return None if number is None else Prot(number)

    @property
    def mappings(self) -> list[Mapping]:
        """The kernel's mappings that hold its pages, in ascending order."""
        start, stop = self.extent
        return [mapping for mapping in AddressSpace() if mapping.start < stop and mapping.stop > start]

    def _pages(self, start: int, stop: int | None) -> tuple[int, int]:
        """The first page and the number of pages of [start, stop)."""
        stop = self.size if stop is None else stop
        for name, offset in (("start", start), ("stop", stop)):
            if isinstance(offset, bool) or not isinstance(offset, int):
                raise TypeError(f"{name} must be an int, not {type(offset).__name__}")
            if not 0 <= offset <= self.size:
                raise ValueError(f"{name} {offset} is outside the Region's {self.size} bytes")
        lead = self.address - self.extent[0]  # bytes before a block that ends at its guard
        if start != 0 and (start + lead) % PAGE_SIZE:
            raise ValueError(
                f"start {start} must be a multiple of the page size, {PAGE_SIZE}: pages are protected whole"
            )
        if stop != self.size and (stop + lead) % PAGE_SIZE:
            raise ValueError(f"stop {stop} must be a multiple of the page size, {PAGE_SIZE}, or the end")
        if stop < start:
            raise ValueError(f"the range from {start} to {stop} runs backwards")
        first = (start + lead) // PAGE_SIZE
        return first, -(-(stop + lead) // PAGE_SIZE) - first if stop > start else 0

    def _protect_pages(self, first: int, count: int, prot: int) -> None:
        try:
            self.protect_pages(first, count, prot)
        except OSError as error:
            address = self.extent[0] + first * PAGE_SIZE
            raise diagnosed(error.errno or 0, "mprotect", (address, count * PAGE_SIZE, prot)) from None

    def protect(self, prot: Protection, start: int = 0, stop: int | None = None) -> None:
        """Change the protection of its pages.

        Views handed out earlier stay: where they break the new protection, they fault.

        :param prot: the protection from now on.
        :param start: byte offset, a multiple of the page size.
        :param stop: byte offset, a multiple of the page size or the end, which is the default.
        :raises ValueError: the range does not fit the pages, or the region is closed.
        :raises memprot.ProtectionError: the kernel refuses.
        """
        first, count = self._pages(start, stop)
        self._protect_pages(first, count, int(as_prot(prot)))

    def protected(self, prot: Protection, start: int = 0, stop: int | None = None) -> _native.Protection:
        """Change the protection within a ``with`` block; afterwards every page has its previous one again.

        :param prot: the protection inside.
        :param start: byte offset, a multiple of the page size.
        :param stop: byte offset, a multiple of the page size or the end, which is the default.
        :raises ValueError: the range does not fit the pages, or the region is closed.
        :raises memprot.ProtectionError: the kernel refuses; every page then has its previous protection.
        :raises BufferError: the region is closed inside the block.
        """
        return _native.Protection(self._view(start, stop), int(as_prot(prot)), self)

    def _view(self, start: int, stop: int | None) -> memoryview:
        first, count = self._pages(start, stop)
        lead = self.address - self.extent[0]
        low, high = max(0, first * PAGE_SIZE - lead), max(0, (first + count) * PAGE_SIZE - lead)
        return memoryview(self)[low:high]

    def array(
        self, dtype: numpy.typing.DTypeLike, shape: int | tuple[int, ...] | None = None
    ) -> numpy.ndarray[Any, Any]:
        """A NumPy array over its bytes, whose statements raise the faults they meet: see :func:`array_over`.

        It does not keep the Region from being closed, as a memoryview does; it must not be used afterwards.

        :param dtype: of the elements.
        :param shape: by default one dimension, as many elements as fit.
        :raises ValueError: the shape needs more bytes than there are; the elements would be references to objects.
        """
        return array_over(memoryview(self), dtype, shape)

    def _advise(self, advice: int, start: int, stop: int | None) -> None:
        first, count = self._pages(start, stop)
        if count:
            calls.madvise(self.extent[0] + first * PAGE_SIZE, count * PAGE_SIZE, advice)

    def advise(self, advice: int, start: int = 0, stop: int | None = None) -> None:
        """Tell the kernel how the pages will be used: a :class:`memprot.flags.Advice`, see madvise(2).

        :raises memprot.ProtectionError: the kernel refuses.
        """
        self._advise(int(advice), start, stop)

    def discard(self, start: int = 0, stop: int | None = None) -> None:
        """Give the pages' memory back (MADV_DONTNEED): private ones read as zeros afterwards, a file's as the file.

        :raises memprot.ProtectionError: the kernel refuses, as it does for locked pages.
        """
        self._advise(Advice.DONTNEED, start, stop)

    def lock(self, start: int = 0, stop: int | None = None) -> None:
        """Keep the pages in memory: they are read in now and never swapped out. A forked child's copy is not locked.

        :param start: byte offset, a multiple of the page size.
        :param stop: byte offset, a multiple of the page size or the end, which is the default.
        :raises ValueError: the range does not fit the pages, or the region is closed.
        :raises memprot.ProtectionError: ENOMEM or EAGAIN beyond RLIMIT_MEMLOCK, and for pages that permit nothing,
            which cannot be read in.

        Source: mlock(2).
        """
        first, count = self._pages(start, stop)
        if count:
            calls.mlock(self.extent[0] + first * PAGE_SIZE, count * PAGE_SIZE)

    def unlock(self, start: int = 0, stop: int | None = None) -> None:
        """Let the pages be swapped out again, however often they were locked.

        :raises ValueError: the range does not fit the pages, or the region is closed.
        :raises memprot.ProtectionError: the kernel refuses.

        Source: munlock(2).
        """
        first, count = self._pages(start, stop)
        if count:
            calls.munlock(self.extent[0] + first * PAGE_SIZE, count * PAGE_SIZE)

    def seal(self, start: int = 0, stop: int | None = None) -> None:
        """Seal the pages until the process ends, as :func:`memprot.seal` does. There is no way back.

        Closing the Region afterwards is allowed; its memory, all of it, then stays until the process ends.

        :raises ValueError: the range does not fit the pages, or the region is closed.
        :raises memprot.ProtectionError: the kernel cannot seal (``Reason.NOT_SUPPORTED``).

        Source: mseal(2).
        """
        seal(self._view(start, stop))

    def split(self, offset: int) -> tuple[Region, Region]:
        """Give the pages from an offset on to a new Region; this one keeps those before it.

        Nothing is copied or moved: each part is protected, sealed and closed by itself from then on.

        :param offset: in bytes, a multiple of the page size inside the Region.
        :return: this Region and the new one.
        :raises ValueError: no such offset; the Region is closed, guarded or partly sealed.
        :raises BufferError: buffers of it are in use.
        """
        first, count = self._pages(offset, None)
        if first == 0 or count == 0:
            raise ValueError(f"offset {offset} leaves one part empty; split between its {self.size} bytes")
        if self.guarded:
            raise ValueError("a guarded Region cannot be split: its guards belong to the whole of it")
        rest = type(self).__new__(type(self))
        self._split(first, rest)
        rest._policy = self._policy
        return self, rest

    def __enter__(self) -> Region:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return "<Region closed>"
        prot = "mixed protection" if self.prot is None else str(self.prot)
        return f"<Region {self.address:#x} {self.size} bytes {prot}>"


def guarded(size: int, side: Side = "right", *, policy: Policy | None = None) -> Region:
    """Memory between two guards: an access one byte past its end (or before its start) faults.

    :param size: bytes, at least 1.
    :param side: ``"right"`` puts the last byte right before a guard, ``"left"`` the first byte right behind one; on
        the other side up to a page lies between.
    :param policy: what happens to faults on it, as for a :class:`Region`. Beyond its ends there is no memory: what is
        written there vanishes, whatever the policy.
    :raises ValueError: no such size, side or policy.
    :raises memprot.ProtectionError: there is no memory for it.

    Source: madvise(2), MADV_GUARD_INSTALL; mprotect(2) where the kernel lacks it.

    >>> import ctypes
    >>> from memprot import FaultError, catch_faults, guarded
    >>> block = guarded(13)
    >>> try:
    ...     with catch_faults():
    ...         ctypes.memset(block.address, 0, 14)
    ... except FaultError as fault:
    ...     print(fault.cause, fault.offset)
    guard 13
    """
    if side not in ("right", "left"):
        raise ValueError(f'side must be "right" or "left", not {side!r}')
    region = Region.__new__(Region)
    region._map(size, Prot.READ | Prot.WRITE, side=side, policy=policy)
    return region
