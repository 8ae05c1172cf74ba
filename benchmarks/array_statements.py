"""Statements on arrays that raise their own faults: those of a Region, and any while arrays are guarded.

Both are compared with a plain array over the same bytes.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from measure import Row, interleaved

import memprot._native as _native
from memprot import PAGE_SIZE, Region

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 20_000
RUNS = 61


def store(array: Any) -> None:
    for _ in range(STEPS):
        array[3] = 1.5


def load(array: Any) -> None:
    for _ in range(STEPS):
        array[3]


def store_slice(array: Any) -> None:
    for _ in range(STEPS):
        array[2:6] = 1.5


def view(array: Any) -> None:
    for _ in range(STEPS):
        array[2:6]


def add_in_place(array: Any) -> None:
    for _ in range(STEPS):
        array += 1.5


def while_guarded(statement: "Callable[[Any], None]", array: Any) -> None:
    """As while :func:`memprot.guard.enable` holds, but for the guards."""
    _native.exact_arrays(type(array), type(array.flat))
    try:
        statement(array)
    finally:
        _native.inexact_arrays()


def rows() -> list[Row]:
    import numpy

    found = []
    region = Region(PAGE_SIZE)
    array = region.array("f8")
    plain = numpy.asarray(array)
    cases: list[tuple[str, Callable[[Any], None], float | None]] = [
        ("v[i] = x", store, 1.15),
        ("v[i]", load, 1.15),
        ("v[a:b] = x", store_slice, None),
        ("v[a:b]", view, None),
        ("v += x", add_in_place, None),
    ]
    for what, statement, target in cases:
        theirs = partial(statement, plain)
        ours, other, _ = interleaved(partial(statement, array), theirs, RUNS)
        found.append(Row(f"{what} on Region.array(), against a plain array", ours / STEPS, other / STEPS, target))
        ours, other, _ = interleaved(partial(while_guarded, statement, plain), theirs, RUNS)
        found.append(Row(f"{what} while arrays are guarded, against not", ours / STEPS, other / STEPS, 1.15))
    return found


if __name__ == "__main__":
    from measure import show

    show(rows())
