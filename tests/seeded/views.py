"""Bugs in Cython that checks no bounds."""

from array import array
from typing import Any

import numpy

from tests.seeded.bug import seeded

QUARANTINE = ("--quarantine", "1MiB")


@seeded("views.pyx", "overflow", "read", distance=0, size=8)
def loop_to_the_last_neighbour(code: Any) -> None:
    """Each element changes the next one, and the last one has none."""
    series = numpy.zeros(1000)  # allocated
    code.cumulate(series)  # fault


@seeded("views.pyx", "underflow", "read", distance=-8, size=8)
def negative_without_wraparound(code: Any) -> None:
    """a[-1] with wraparound=False."""
    series = numpy.zeros(512)  # allocated
    code.last(series)  # fault


@seeded("views.pyx", "overflow", "read", distance=0, size=8)
def stride_in_bytes(code: Any) -> None:
    """A stride in bytes is added to a pointer to double."""
    table = numpy.zeros((8, 125))  # allocated
    code.first_column(table)  # fault


@seeded("views.pyx", "overflow", "write", distance=0, size=8, guard="mem")
def past_an_array_array(code: Any) -> None:
    """A loop writes one element past an array.array."""
    numbers = array("d", [0]) * 100  # allocated
    code.fill(numbers)  # fault


@seeded("views.pyx", "overflow", "write", distance=8, size=8, guard="raw")
def size_of_the_pointer(code: Any) -> None:
    """A structure gets the size of a pointer to it."""
    code.make_node()  # allocated, fault


@seeded("views.pyx", "use-after-free", "read", distance=400, size=8, guard="mem", options=QUARANTINE)
def scratch_after_free(code: Any) -> None:
    """A result is read from scratch memory that was freed."""
    code.median(100)  # allocated, freed, fault


@seeded("views.pyx", "use-after-free", "read", distance=80, size=8, options=QUARANTINE)
def callback_that_resizes(code: Any) -> None:
    """A callback resizes the array that the loop is in."""
    series = numpy.zeros(1000)  # allocated

    def grow() -> None:
        series.resize(4000, refcheck=False)  # freed

    code.visit(series, grow)  # fault


@seeded("views.pyx", "overflow", "write", distance=0, size=8)
def past_the_end_in_openmp(code: Any) -> None:
    """A parallel loop goes one too far."""
    field = numpy.zeros(1000)  # allocated
    code.scale_in_threads(field, 2)  # fault
