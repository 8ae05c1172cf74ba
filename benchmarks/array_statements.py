"""Statements on the array of a Region, which raise their own faults, against those on a plain array of the same bytes."""

from typing import TYPE_CHECKING, Any

from measure import Row, interleaved

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


def rows() -> list[Row]:
    import numpy

    found = []
    cases: list[tuple[str, Callable[[Any], None], float | None]] = [
        ("v[i] = x", store, 1.15),
        ("v[i]", load, 1.15),
        ("v[a:b] = x", store_slice, None),
        ("v[a:b]", view, None),
        ("v += x", add_in_place, None),
    ]
    with Region(PAGE_SIZE) as region:
        array = region.array("f8")
        plain = numpy.asarray(array)
        for what, statement, target in cases:
            ours, theirs, ratio = interleaved(lambda: statement(array), lambda: statement(plain), RUNS)
            found.append(Row(f"{what} on Region.array(), against a plain array", ours / STEPS, theirs / STEPS, target))
        del array, plain
    return found


if __name__ == "__main__":
    from measure import show

    show(rows())
