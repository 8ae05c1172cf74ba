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

__all__ = ["disable", "enable", "report"]

Target = Literal["numpy"]

_TARGETS: Final = ("numpy",)


def _check(target: str) -> None:
    if target not in _TARGETS:
        raise ValueError(f"nothing called {target!r} can be guarded; choose one of: {', '.join(_TARGETS)}")


def enable(target: Target = "numpy", *, side: Literal["right", "left"] = "right") -> None:
    """Guard every block that is allocated from now on; blocks from before are left alone.

    :param target: ``"numpy"``: the data of arrays.
    :param side: ``"right"``: the last byte lies right before a guard, which finds what runs past the end; ``"left"``:
        the first byte lies right behind one.
    :raises ValueError: no such target or side.
    :raises ModuleNotFoundError: NumPy is not installed.
    :raises RuntimeError: NumPy is too old to be guarded.

    >>> import memprot.guard
    >>> memprot.guard.enable("numpy", side="left")
    >>> memprot.guard.disable("numpy")
    """
    _check(target)
    if side not in ("right", "left"):
        raise ValueError(f'side must be "right" or "left", not {side!r}')
    _numpy.enable(side)


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
