"""Bugs in C that has been given NumPy's memory."""

from typing import Any

import numpy

from tests.seeded.bug import seeded

QUARANTINE = ("--quarantine", "1MiB")


@seeded("arrays.c", "overflow", "write", distance=0, size=8)
def off_by_one_write(code: Any) -> None:
    """A loop writes one element past the end."""
    out = numpy.empty(1000)  # allocated
    code.ramp(out.ctypes, len(out))  # fault


@seeded("arrays.c", "overflow", "read", distance=0, size=8)
def off_by_one_read(code: Any) -> None:
    """A sum reads one element past the end."""
    samples = numpy.ones(1000)  # allocated
    code.total(samples.ctypes, len(samples))  # fault


@seeded("arrays.c", "underflow", "write", distance=-8, size=8, options=("--side", "left"))
def negative_index(code: Any) -> None:
    """A loop begins one too early and writes a[-1]."""
    queue = numpy.ones(1000)  # allocated
    code.shift_down(queue.ctypes, len(queue))  # fault


@seeded("arrays.c", "overflow", "write", distance=0, size=8)
def wrong_dtype(code: Any) -> None:
    """Code for double is given float32."""
    weights = numpy.ones(1000, "f4")  # allocated
    code.clear(weights.ctypes, len(weights))  # fault


@seeded("arrays.c", "overflow", "write", distance=range(7 * 8000))
def memset_too_long(code: Any) -> None:
    """memset gets a number of bytes times the size of an element."""
    image = numpy.ones(1000)  # allocated
    code.erase(image.ctypes, image.nbytes)  # fault


@seeded("arrays.c", "overflow", "read", distance=range(1600))
def memcpy_too_long(code: Any) -> None:
    """memcpy begins half a frame before the end and copies a whole one."""
    frame = numpy.empty(400)
    recording = numpy.ones(4000)  # allocated
    code.last_frame(frame.ctypes, recording.ctypes, len(recording), len(frame))  # fault


@seeded("arrays.c", "underflow", "write", distance=-8)
def memmove_backwards(code: Any) -> None:
    """memmove moves to before the start."""
    queue = numpy.ones(512)  # allocated
    code.drop_first(queue.ctypes, len(queue))  # fault


@seeded("arrays.c", "overflow", "read", distance=range(64))
def no_terminator(code: Any) -> None:
    """strlen of a field that is full."""
    names = numpy.array([b"abcdefghijkl"], "S12")  # allocated
    code.length(names.ctypes, names.itemsize)  # fault


@seeded("arrays.c", "overflow", "write", distance=0, size=1)
def terminator_past_the_end(code: Any) -> None:
    """A string gets its terminator behind its field."""
    names = numpy.zeros(1, "S12")  # allocated
    code.set_name(names.ctypes, names.itemsize, b"abc")  # fault


@seeded("arrays.c", "overflow", "write", distance=0, size=8)
def vector_for_the_tail(code: Any) -> None:
    """The last two elements are written with a vector of four."""
    mask = numpy.zeros(1002, "f4")  # allocated
    code.ones(mask.ctypes, len(mask))  # fault


@seeded("arrays.c", "overflow", "write", distance=4, size=8)
def unpacked_records(code: Any) -> None:
    """Packed records are taken for ones with padding."""
    particles = numpy.zeros(100, [("kind", "i1"), ("mass", "f8"), ("number", "i4")])  # allocated
    code.weigh(particles.ctypes, len(particles))  # fault


@seeded("arrays.c", "overflow", "write", distance=0, size=8)
def last_part_of_a_thread(code: Any) -> None:
    """The last of four threads fills as much as the others."""
    field = numpy.zeros(1002)  # allocated
    code.fill_in_threads(field.ctypes, len(field))  # fault


@seeded("arrays.c", "use-after-free", "write", distance=800, size=8, options=QUARANTINE)
def pointer_from_before_resize(code: Any) -> None:
    """A pointer is kept while the array is resized."""
    series = numpy.zeros(1000)  # allocated
    code.series_begins(series.ctypes)
    series.resize(4000, refcheck=False)  # freed
    code.series_has_moved(series.ctypes)
    code.series_put(100, 7)  # fault
