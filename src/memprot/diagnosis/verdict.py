"""Asking beforehand: would a change of protection succeed?

>>> from memprot import PAGE_SIZE, check
>>> check(0, PAGE_SIZE, "r--").reason
<Reason.HOLE: 'hole'>
"""

from functools import cache
from typing import NamedTuple

import memprot._native as _native
from memprot._native import Mapping, MapsFile
from memprot.diagnosis.process import Process
from memprot.diagnosis.walk import Request, Walk
from memprot.prot import Prot, as_prot
from memprot.reason import Reason
from memprot.space.maps import refuse

__all__ = ["Verdict", "check"]


class Verdict(NamedTuple):
    """Whether a change of protection would succeed, and if not, why. True or false as ``ok`` is.

    >>> from memprot import check
    >>> bool(check(1, 4096, "r--"))
    False
    """

    ok: bool
    """Whether it would succeed."""
    errno: int | None = None
    """What mprotect would fail with; None when it would not."""
    reason: Reason | None = None
    """The cause; None when it would succeed."""
    start: int | None = None
    """The first address of the offending part; None when there is none, or the arguments are wrong."""
    stop: int | None = None
    """The address after it."""
    mapping: Mapping | None = None
    """The mapping that would refuse."""
    hint: str | None = None
    """What to do about it."""

    def __bool__(self) -> bool:
        return self.ok


_YES = Verdict(True)


def check(address: int, length: int, prot: Prot | str | int, pid: int | None = None) -> Verdict:
    """Whether ``mprotect(address, length, prot)`` would succeed now. Nothing is changed.

    :param address: the first byte; mprotect wants a multiple of the page size.
    :param length: in bytes; rounded up to whole pages. With 0 the call succeeds and does nothing.
    :param prot: ``Prot``, ``"r-x"`` or int.
    :param pid: the process that would make the call; None for the one that asks.
    :raises TypeError: for an argument of another type (bool and float are no int).
    :raises ValueError: for a string that is no protection.
    :raises OverflowError: for an int that does not fit in 64 bits, signed or unsigned. What fits gets the
        kernel's answer.
    :raises ProcessLookupError: when there is no such process, or it has no address space.
    :raises PermissionError: when its memory may not be looked at; says why.

    The verdict is that of the kernel's own checks, in their order. It is of this moment: other threads may map
    and unmap. Not foreseen are a security module, a seccomp filter, a kernel that runs out of memory, and of
    another process PR_SET_MDWE, which nobody can read; and where the number of mappings is at its limit,
    whether two neighbours merge is judged by what /proc shows of them.

    The first question about our own process opens two files of /proc, which stay open for the next ones.

    Source: mprotect(2), do_mprotect_pkey in mm/mprotect.c.

    >>> from memprot import Region, check
    >>> region = Region(4096)
    >>> check(region.address, 4096, "rwx").ok
    True
    >>> check(region.address, 4096, 1 << 32).reason
    <Reason.UNKNOWN_FLAGS: 'unknown_flags'>
    """
    if type(prot) is not int:
        prot = _flags(prot)
    request = Request(_word("address", address), _word("length", length), _word("prot", prot))
    if pid is not None:
        _word("pid", pid)
    try:
        if pid is None:
            process = Process(maps=_our_maps())
            refusal = Walk(process, process.seems_sealed if _moves_tell_seals() else None).refusal(request)
        else:
            refusal = Walk(Process(pid)).refusal(request)
    except OSError as error:
        refuse(pid, error)
    if refusal is None:
        return _YES
    return Verdict(False, refusal.errno, refusal.reason, refusal.start, refusal.stop, refusal.mapping, refusal.hint)


def _flags(prot: Prot | str | int) -> int:
    return prot if isinstance(prot, int) and not isinstance(prot, bool) else as_prot(prot)


def _word(name: str, value: int) -> int:
    if type(value) is int and 0 <= value < 2**64:
        return value
    if type(value) is not int and (not isinstance(value, int) or isinstance(value, bool)):
        raise TypeError(f"check() argument '{name}' must be an int, not {type(value).__name__}")
    if not -(2**63) <= value < 2**64:
        raise OverflowError(f"check() argument '{name}' does not fit in 64 bits, signed or unsigned")
    return int(value) % 2**64


@cache
def _our_maps() -> MapsFile:
    """One open file for all questions; it notices by itself that the process has forked or closed it."""
    return MapsFile()


@cache
def _moves_tell_seals() -> bool:
    """Whether this kernel refuses to move sealed memory onto itself: found by trying, in a child."""
    try:
        trials = _native.try_features()
    except OSError:
        return False  # the page for the child's answers could not be had; the slower way needs none
    return any(name == "mseal" and value for name, *_, value in trials)
