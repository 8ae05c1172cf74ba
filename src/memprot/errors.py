"""Errors that say which call failed, on what memory, and what to do about it.

>>> from memprot import ProtectionError, calls
>>> try:
...     calls.mprotect(0x10000, 4096, 1 << 32 | 5)
... except ProtectionError as error:
...     print(error)
mprotect of 4096 bytes at 0x10000 to r-x+0x100000000 failed with EINVAL (Invalid argument): the bits \
0x100000000 of the protection mean nothing to this kernel; use the flags of memprot.Prot
"""

import errno as numbers
import os
from typing import TYPE_CHECKING

from memprot.request import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from memprot._native import Mapping
    from memprot.reason import Reason

__all__ = ["ProtectionError"]

_PERMISSION = (numbers.EACCES, numbers.EPERM)


class ProtectionError(OSError):
    """A memory system call failed.

    :param number: the errno.
    :param call: the name of the call.
    :param arguments: what it was called with, in the order of its man page.

    ``errno`` and ``strerror`` are those of an OSError, and for EACCES and EPERM the exception is a
    PermissionError too. ``str()`` is one plain sentence. Pickling keeps everything.

    :ivar call: the name of the call that failed, or None.
    :ivar start: the first address of the offending part; None when it is unknown or the arguments were wrong.
    :ivar stop: the address after it, or None.
    :ivar mapping: the :class:`memprot.Mapping` that refused, or None.
    :ivar applied: the ranges ``(start, stop)`` that the call had changed already when it failed.
    :ivar reason: a :class:`memprot.Reason`: why it failed, or None when that is unknown.
    :ivar explanation: the cause in words, with the values; None when it is unknown.
    :ivar hint: what to do about it, or None.

    What is an attribute afterwards may be given by name. Without, the error claims nothing but its errno.

    >>> from memprot import ProtectionError, calls
    >>> try:
    ...     calls.munmap(1, 4096)
    ... except ProtectionError as error:
    ...     print(error.errno, error.call, error.applied)
    22 munmap ()
    """

    call: str | None
    start: int | None
    stop: int | None
    mapping: "Mapping | None"
    applied: tuple[tuple[int, int], ...]
    reason: "Reason | None"
    explanation: str | None
    hint: str | None
    _arguments: tuple[object, ...]

    def __new__(
        cls,
        number: int,
        call: str | None = None,
        arguments: tuple[object, ...] = (),
        *,
        reason: "Reason | None" = None,
        start: int | None = None,
        stop: int | None = None,
        mapping: "Mapping | None" = None,
        applied: tuple[tuple[int, int], ...] = (),
        explanation: str | None = None,
        hint: str | None = None,
    ) -> "ProtectionError":
        if cls is ProtectionError and number in _PERMISSION:
            cls = _ProtectionPermissionError
        self = super().__new__(cls, number, os.strerror(number))
        self.call = call
        self.start = start
        self.stop = stop
        self.mapping = mapping
        self.reason = reason
        self.applied = applied
        self.explanation = explanation
        self.hint = hint
        self._arguments = arguments
        return self

    def __init__(
        self, number: int, call: str | None = None, arguments: tuple[object, ...] = (), **diagnosis: object
    ) -> None:
        # OSError settled everything when the object was made; its own __init__ would take the arguments.
        del number, call, arguments, diagnosis

    def __reduce__(self) -> "tuple[Callable[..., ProtectionError], tuple[object, ...], dict[str, object]]":
        rebuilt = ProtectionError if type(self) is _ProtectionPermissionError else type(self)
        return rebuilt, (self.errno, self.call, self._arguments), self.__dict__

    def __str__(self) -> str:
        sentence = f"{describe(self.call, self._arguments)} failed with {_cause(self)}"
        said = "; ".join(part for part in (self.explanation, self.hint) if part is not None)
        return f"{sentence}: {said}" if said else sentence


class _ProtectionPermissionError(ProtectionError, PermissionError):
    """The same for those who catch PermissionError."""


_ProtectionPermissionError.__name__ = _ProtectionPermissionError.__qualname__ = "ProtectionError"


def _cause(error: OSError) -> str:
    number = error.errno or 0
    return f"{numbers.errorcode.get(number, f'errno {number}')} ({error.strerror})"
