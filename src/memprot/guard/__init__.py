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

from typing import Final, Literal

from memprot.guard import numpy as _numpy
from memprot.prot import PAGE_SIZE

__all__ = ["disable", "enable", "report"]

Target = Literal["numpy"]

_TARGETS: Final = ("numpy",)


def _check(target: str) -> None:
    if target not in _TARGETS:
        raise ValueError(f"nothing called {target!r} can be guarded; choose one of: {', '.join(_TARGETS)}")


def enable(target: Target = "numpy", *, side: Literal["right", "left"] = "right", align: int = 1) -> None:
    """Guard every block that is allocated from now on; blocks from before are left alone.

    :param target: ``"numpy"``: the data of arrays.
    :param side: ``"right"``: the last byte lies right before a guard, which finds what runs past the end; ``"left"``:
        the first byte lies right behind one.
    :param align: the address of each block is a multiple of it, a power of two up to the page size. By default a block
        ends at its guard to the byte, and is aligned as its size allows; code that counts on malloc's 16 finds that
        with ``align=16``, and up to 15 bytes past the end are then not guarded.
    :raises ValueError: no such target, side or alignment.
    :raises ModuleNotFoundError: NumPy is not installed.
    :raises RuntimeError: NumPy is too old to be guarded.

    >>> import memprot.guard
    >>> memprot.guard.enable("numpy", side="left")
    >>> memprot.guard.disable("numpy")
    """
    _check(target)
    if side not in ("right", "left"):
        raise ValueError(f'side must be "right" or "left", not {side!r}')
    if isinstance(align, bool) or not isinstance(align, int):
        raise TypeError(f"align must be an int, not {type(align).__name__}")
    if not 1 <= align <= PAGE_SIZE or align & (align - 1):
        raise ValueError(f"align must be a power of two from 1 to the page size, {PAGE_SIZE}, not {align}")
    _numpy.enable(side, align)


def disable(target: Target = "numpy") -> None:
    """Guard no new blocks. Guarded ones stay guarded until they are freed.

    :raises ValueError: no such target.

    >>> import memprot.guard
    >>> memprot.guard.disable("numpy")
    """
    _check(target)
    _numpy.disable()


def report() -> dict[str, dict[str, int]]:
    """What was guarded so far, for each target.

    ``arrays`` and ``bytes`` guarded since the start, ``live_arrays`` and ``live_bytes`` of these in use now,
    ``unguarded`` for want of memory, ``left_alone`` because they are from before, and ``overhead``: the most bytes that
    the pages of guarded arrays held beyond the arrays' own.

    >>> import memprot.guard
    >>> sorted(memprot.guard.report()["numpy"])[:2]
    ['arrays', 'bytes']
    """
    return {"numpy": _numpy.report()}
