"""How a failed system call becomes an exception that says why: the error factory of the binding.

>>> from memprot import ProtectionError, calls
>>> try:
...     calls.mprotect(0, 4096, 1)
... except ProtectionError as error:
...     print(error)
mprotect of 4096 bytes at 0x0 to r-- failed with ENOMEM (Cannot allocate memory): nothing is mapped at \
0x0-0x1000; map it first, or leave it out; memprot.AddressSpace lists what is mapped
"""

import threading

import memprot._native as _native
from memprot.diagnosis.causes import CAUSES
from memprot.errors import ProtectionError

__all__ = ["diagnosed"]

# What may go wrong while looking for the cause. Not among them are exceptions that others raise in this thread,
# which must not get lost: KeyboardInterrupt, FaultError.
_OURS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)

_looking = threading.local()


def diagnosed(number: int, call: str, arguments: tuple[object, ...]) -> ProtectionError:
    """The error of a failed call, with its cause as far as it can be found.

    :param number: the errno.
    :param call: the name of the call.
    :param arguments: what it was called with, in the order of its man page.

    Nothing that goes wrong meanwhile replaces the error: then it is one without a cause.

    >>> import errno
    >>> from memprot.diagnosis.factory import diagnosed
    >>> diagnosed(errno.EINVAL, "mprotect", (1, 4096, 1)).reason
    <Reason.MISALIGNED: 'misaligned'>
    """
    cause = CAUSES.get(call)
    # A call that fails while a cause is looked for says what was to be known by its errno.
    if cause is None or getattr(_looking, "now", False):
        return ProtectionError(number, call, arguments)
    try:
        _looking.now = True
        refusal = cause(number, *arguments)
    except _OURS:
        refusal = None  # what is not known is not said
    finally:
        _looking.now = False
    if refusal is None:
        return ProtectionError(number, call, arguments)
    return ProtectionError(
        number,
        call,
        arguments,
        reason=refusal.reason,
        start=refusal.start,
        stop=refusal.stop,
        mapping=refusal.mapping,
        applied=refusal.applied,
        explanation=refusal.explanation,
        hint=refusal.hint,
    )


_native.set_error_factory(diagnosed)
