"""Changing the protection of any buffer's pages, for good or for the length of a ``with`` block.

>>> import mmap
>>> from memprot import AddressSpace, protected
>>> from memprot._native import buffer_range
>>> memory = mmap.mmap(-1, 4096)
>>> with protected(memory, "r--"):
...     str(AddressSpace().find(buffer_range(memory)[0]).prot)
'r--'
>>> memory[0] = 1
"""

from __future__ import annotations

import errno as numbers
from typing import Final

import memprot._native as _native
from memprot.diagnosis.factory import diagnosed
from memprot.errors import ProtectionError
from memprot.memory.ownership import is_raw, raw_pages, strangers
from memprot.prot import Prot, as_prot
from memprot.reason import Reason
from memprot.request import address_text
from memprot.space.maps import AddressSpace

__all__ = ["prepared", "protect", "protected"]

# Parsing a string costs more than the kernel's part of the work.
_BITS: Final = {str(Prot(bits)): bits for bits in range(8)}
_DONE: Final = {"protect": "protected", "seal": "sealed"}
_GROWS: Final = int(Prot.GROWSDOWN | Prot.GROWSUP)


def protect(target: object, prot: Prot | str | int, *, neighbours: bool = False, atomic: bool = False) -> None:
    """Change the protection of the pages that hold a buffer.

    Pages are protected whole. A page that also holds other bytes, even of the same buffer, is refused unless
    ``neighbours`` is true. An empty buffer has no pages: nothing is done.

    What breaks the new protection faults; within :class:`memprot.catch_faults` it raises
    :class:`memprot.FaultError` and the bytes stay as they are, on pages that hold nothing but the target's data.

    As long as the memory permits less than before, the buffer is held: it can be neither freed nor closed nor resized,
    since the next user of the memory would meet a protection it knows nothing of. Keep a reference, and give the
    permission back with another call. The memory of a :class:`memprot.Region` needs no such care and is not held.

    :param target: any object with a buffer, also a read-only one.
    :param prot: a :class:`memprot.Prot`, ``"r--"`` or a number; not GROWSDOWN or GROWSUP, which reach beyond a buffer.
    :param neighbours: protect whatever else lives in the first and the last page too. For an array that is not
        contiguous, also what lies between its elements.
    :param atomic: when the kernel refuses a part, put back what was changed before it.
    :raises TypeError: the target has no buffer.
    :raises ValueError: the target is closed or released, or not contiguous; no such protection.
    :raises memprot.ProtectionError: a page is shared (``Reason.SHARED_PAGE``), or the kernel refuses.

    Source: mprotect(2).

    >>> import mmap
    >>> from memprot import FaultError, catch_faults, protect
    >>> memory = mmap.mmap(-1, 4096)
    >>> protect(memory, "r--")
    >>> try:
    ...     with catch_faults():
    ...         memory[100] = 1
    ... except FaultError as fault:
    ...     print(fault.access, fault.offset)
    write 100
    >>> protect(memory, "rw-")
    >>> memory[100]
    0
    """
    prepared(target, prot, neighbours).keep(atomic)


def protected(
    target: object, prot: Prot | str | int, *, neighbours: bool = False, atomic: bool = True
) -> _native.Protection:
    """Change the protection of the pages that hold a buffer for the length of a ``with`` block.

    Afterwards every page has the protection it had, whatever happened inside, and in whatever order the scopes of
    several threads end. ``as`` names the target. The buffer is held: closing or resizing it inside is a BufferError.
    Pages and faults are as with :func:`protect`.

    :param target: any object with a buffer, also a read-only one.
    :param prot: a :class:`memprot.Prot`, ``"r--"`` or a number.
    :param neighbours: protect whatever else lives in the first and the last page too.
    :param atomic: accepted as :func:`protect` has it; a scope that cannot begin has always put everything back.
    :raises TypeError: the target has no buffer.
    :raises ValueError: the target is closed or released, or not contiguous; no such protection.
    :raises memprot.ProtectionError: a page is shared, or the kernel refuses; at the end, when memory is gone
        (``Reason.HOLE``) or something else is mapped in its place (``Reason.CHANGED_MEANWHILE``): that is not touched,
        everything else has its protection back. New memory without a file cannot be told from the old.

    Source: mprotect(2), proc_pid_maps(5).

    >>> import mmap
    >>> from memprot import protected
    >>> memory = mmap.mmap(-1, 4096)
    >>> with protected(memory, "r--") as same:
    ...     same is memory
    True
    """
    del atomic
    return prepared(target, prot, neighbours)


def prepared(target: object, prot: Prot | str | int, neighbours: bool, request: str = "protect") -> _native.Protection:
    """A protection of a buffer's pages that may be protected whole; nothing is changed yet, but the buffer is held.

    :param target: any object with a buffer.
    :param prot: of the pages.
    :param neighbours: whether they may hold other bytes too.
    :param request: what an error says was asked for.
    :raises memprot.ProtectionError: a page is shared.

    >>> import mmap
    >>> prepared(mmap.mmap(-1, 100), "r--", False).whole
    False
    """
    # Not get(): without a global lock it takes the table's, which a forked child may find taken for ever.
    bits = _BITS[prot] if type(prot) is str and prot in _BITS else None
    if bits is None:
        bits = int(as_prot(prot))
        if bits & _GROWS:
            raise ValueError(
                f"{as_prot(prot)} would change memory beyond the target; use memprot.mprotect on the mapping itself"
            )
    protection = _native.Protection(target, bits)
    if not protection.whole:
        _admit(protection, target, neighbours, (request, bits))
    return protection


def _admit(protection: _native.Protection, target: object, neighbours: bool, request: tuple[str, int]) -> None:
    """Refuse what also holds other bytes, and say which pages hold raw data only."""
    if protection.size == 0:
        return
    if not protection.contiguous and not neighbours:
        raise ValueError(
            "the array is not contiguous; protect the array it is a view of, or pass neighbours=True for its whole span"
        )
    if not neighbours:
        for start, stop, text in strangers(protection, target):
            raise _shared_page(protection, request, start, stop, text)
    if is_raw(target, protection.raw):
        protection.arm(*raw_pages(protection, target))


def _shared_page(
    protection: _native.Protection, request: tuple[str, int], start: int, stop: int, text: str
) -> ProtectionError:
    call, prot = request
    # Others use the page: nothing is wrong with the arguments, and no privilege is missing.
    return ProtectionError(
        numbers.EBUSY,
        call,
        (protection.address, protection.size, prot),
        reason=Reason.SHARED_PAGE,
        start=start,
        stop=stop,
        mapping=AddressSpace().find(start),
        explanation=f"pages are {_DONE[call]} whole, and the one at {address_text(start)} also holds {text}",
        hint="take whole pages (a memprot.Region has its own), or pass neighbours=True and answer for the neighbours",
    )


def _refused(number: int, start: int, length: int, prot: int) -> ProtectionError:
    return diagnosed(number, "mprotect", (start, length, prot))


_UNREAD, _HOLE, _REFUSED = 0, 1, 3


def _lost(kind: int, start: int, stop: int, prot: int, number: int) -> ProtectionError:
    arguments = (start, stop - start, prot)
    if kind == _UNREAD:
        return ProtectionError(
            number,
            "protect",
            arguments,
            reason=Reason.DESCRIPTOR_LIMIT if number in (numbers.EMFILE, numbers.ENFILE) else None,
            explanation="the protection to give back later cannot be read from /proc/self/maps; nothing was changed",
        )
    if kind == _REFUSED:
        error = diagnosed(number, "mprotect", arguments)
        said = "" if error.explanation is None else f"{error.explanation}; "
        error.explanation = f"{said}the scope could not put this part back, the rest has the protection it had"
        error.start, error.stop = start, stop
        return error
    if kind == _HOLE:
        return ProtectionError(
            numbers.ENOMEM,
            "mprotect",
            arguments,
            reason=Reason.HOLE,
            start=start,
            stop=stop,
            explanation="the memory was unmapped inside the scope; what is left has the protection it had",
            hint="end the scope before the memory is given back",
        )
    return ProtectionError(
        numbers.EBUSY,
        "mprotect",
        arguments,
        reason=Reason.CHANGED_MEANWHILE,
        start=start,
        stop=stop,
        mapping=AddressSpace().find(start),
        explanation="something else was mapped there inside the scope and is left alone; the rest has the protection "
        "it had",
        hint="end the scope before the memory is replaced",
    )


_native.set_protection_errors(_refused, _lost)
