"""Why a call about a protection key failed."""

import errno
from functools import cache

import memprot._native as _native
from memprot.diagnosis.refusal import Refusal
from memprot.reason import Reason

__all__ = ["has_keys", "key_cause", "pkey_alloc_cause", "rights_cause"]

_KEYS = 16
_RIGHTS = 0x3
_HINT = "memprot.features.available('protection_keys') tells beforehand; use mprotect instead"


@cache
def has_keys() -> bool:
    """Whether CPU and kernel have protection keys.

    >>> from memprot.diagnosis.keys import has_keys
    >>> has_keys() in (True, False)
    True
    """
    try:
        _native.pkey_get(0)
    except OSError:
        return False
    return True


def key_cause(number: int, key: int, *_: int) -> Refusal | None:
    """Why a key is not taken.

    >>> import errno
    >>> from memprot.diagnosis.keys import key_cause
    >>> key_cause(errno.EINVAL, 77).reason in ("key_not_allocated", "no_keys")
    True
    """
    if number not in (errno.EINVAL, errno.ENOSYS):
        return None
    if not has_keys():
        return _no_keys(number)
    return Refusal(
        number,
        Reason.KEY_NOT_ALLOCATED,
        f"the protection key {key} has not been allocated, or has been freed",
        f"use a key that pkey_alloc has given; there are {_KEYS}, and 0 is that of all other memory",
    )


def rights_cause(number: int, key: int, rights: int = 0) -> Refusal | None:
    """Why the rights of a key cannot be asked for or set: that is done in the CPU, whether the key is allocated
    or not.

    >>> import errno
    >>> from memprot.diagnosis.keys import rights_cause
    >>> rights_cause(errno.ENOSYS, 1).reason
    <Reason.NO_KEYS: 'no_keys'>
    """
    if number == errno.ENOSYS:
        return _no_keys(number)
    if number != errno.EINVAL:
        return None
    if not 0 <= key < _KEYS:
        return Refusal(number, Reason.BAD_ARGUMENT, f"{key} is no key: they are 0 to {_KEYS - 1}", "use pkey_alloc's")
    said = f"a key has no rights {rights:#x}"
    return Refusal(number, Reason.UNKNOWN_FLAGS, said, "use memprot.calls.KeyRights")


def pkey_alloc_cause(number: int, flags: int, rights: int) -> Refusal | None:
    """Why there is no new key. Kernels say EINVAL or ENOSPC where the CPU has none.

    >>> import errno
    >>> from memprot.diagnosis.keys import pkey_alloc_cause
    >>> pkey_alloc_cause(errno.EINVAL, 1, 0).reason
    <Reason.UNKNOWN_FLAGS: 'unknown_flags'>
    """
    if number == errno.EINVAL and (flags or rights & ~_RIGHTS):
        which = f"flags {flags:#x}" if flags else f"rights {rights:#x}"
        return Refusal(
            number,
            Reason.UNKNOWN_FLAGS,
            f"pkey_alloc knows no {which}",
            "flags must be 0, rights memprot.calls.KeyRights",
        )
    if number not in (errno.EINVAL, errno.ENOSPC, errno.ENOSYS):
        return None
    if not has_keys():
        return _no_keys(number)
    if number != errno.ENOSPC:
        return None
    return Refusal(
        number,
        Reason.NO_KEY_LEFT,
        f"all {_KEYS - 1} protection keys of the process are in use",
        "free one with pkey_free, after giving its pages another key",
    )


def _no_keys(number: int) -> Refusal:
    return Refusal(number, Reason.NO_KEYS, "this CPU or kernel has no protection keys", _HINT)
