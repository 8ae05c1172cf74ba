"""Guarded allocation: every block ends, or begins, at memory that may not be touched (floor 4).

>>> import memprot.guard
>>> memprot.guard.enable("numpy")
>>> import numpy
>>> array = numpy.zeros(10)
>>> memprot.guard.report()["numpy"]["arrays"] >= 1
True
>>> memprot.guard.disable("numpy")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import memprot._native as _native
from memprot.guard import malloc as _malloc
from memprot.guard import numpy as _numpy
from memprot.guard import python as _python
from memprot.guard.settings import OWNERS, Settings, Side, Target
from memprot.size import parse_part_of_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check", "disable", "enable", "report"]


class _Allocator(Protocol):
    """What serves targets: a module."""

    def enable(self, target: Target, settings: Settings) -> None: ...
    def disable(self, target: Target) -> None: ...
    def report(self, target: Target) -> dict[str, int]: ...


_ALLOCATORS: Final[Mapping[Target, _Allocator]] = {
    "numpy": _numpy,
    "raw": _python,
    "mem": _python,
    "obj": _python,
    "malloc": _malloc,
}

_ever_enabled: set[Target] = {"numpy"}


def _allocator_of(target: Target) -> _Allocator:
    if target not in OWNERS:
        raise ValueError(f"nothing called {target!r} can be guarded; choose one of: {', '.join(OWNERS)}")
    return _ALLOCATORS[target]


def enable(
    target: Target = "numpy",
    *,
    sample: int = 1,
    side: Side = "right",
    align: int | None = None,
    after_free: int | str = 0,
) -> None:
    """Guard the blocks that are allocated from now on; blocks from before are left alone.

    :param target: ``"numpy"``: the data of arrays; ``"raw"``, ``"mem"`` and ``"obj"``: Python's own allocators;
        ``"malloc"``: the C library's, under ``memprot run --guard malloc``.
    :param sample: one block of so many is guarded, by chance; 1 guards each.
    :param side: ``"right"``: the last byte lies right before a guard, which finds what runs past the end; ``"left"``:
        the first byte lies right behind one; ``"random"``: one or the other by chance; ``"turns"``: by turns.
    :param align: the address of each block is a multiple of it, a power of two up to the page size. None is what the
        allocator promises: 16, and 1 for NumPy, whose arrays then end at their guard to the byte and are aligned as
        their size allows. Code that counts on malloc's 16 finds that with ``align=16``, and up to 15 bytes past the
        end are then not guarded but filled, and looked at when the block is freed.
    :param after_free: so many bytes of freed blocks stay inaccessible, an int or text such as ``"64MiB"``; the oldest
        are given back first. There is one such quarantine in the process: the value given last counts.
    :raises ValueError: no such target, side, alignment, sample or size.
    :raises ModuleNotFoundError: NumPy is not installed.
    :raises RuntimeError: NumPy is too old to be guarded, or the preload library is not there.

    >>> import memprot.guard
    >>> memprot.guard.enable("numpy", side="left", after_free="1MiB")
    >>> memprot.guard.disable("numpy")
    """
    allocator = _allocator_of(target)
    settings = Settings.of(target, side, align, sample)
    quarantine = parse_part_of_memory(after_free)
    allocator.enable(target, settings)
    _native.guard_quarantine(quarantine)
    _ever_enabled.add(target)


def disable(target: Target = "numpy") -> None:
    """Guard no new blocks. Guarded ones stay guarded until they are freed.

    :raises ValueError: no such target.

    >>> import memprot.guard
    >>> memprot.guard.disable("numpy")
    """
    _allocator_of(target).disable(target)


def report() -> dict[str, dict[str, int]]:
    """What was guarded so far, for each target that ever was, and for ``"numpy"``.

    ``blocks`` (of NumPy: ``arrays``) and ``bytes`` guarded since the start, ``live_blocks`` (``live_arrays``) and
    ``live_bytes`` of these in use now, ``unguarded`` for want of memory, ``left_alone`` because they are from before,
    ``sampled_out`` because others were the sample, ``overhead``: the most bytes that the pages of guarded blocks held
    beyond the blocks' own, ``quarantined``: bytes of freed blocks that are inaccessible now, and ``slack``: blocks
    beside which something had been overwritten when they were looked at.

    >>> import memprot.guard
    >>> sorted(memprot.guard.report()["numpy"])[:2]
    ['arrays', 'bytes']
    """
    return {target: _ALLOCATORS[target].report(target) for target in OWNERS if target in _ever_enabled}


def check() -> int:
    """Look now at what lies between each live block and its guard, and say how many blocks that were.

    What alignment leaves there was filled when the block was handed out. Where it was overwritten, that is a fault of
    kind ``slack``, and the policies say what becomes of it: under ``"raise"`` the FaultError is raised here.

    :raises FaultError: something was overwritten; further findings are in its ``others``.

    >>> import memprot.guard
    >>> memprot.guard.check() >= 0
    True
    """
    return _native.guard_check()
