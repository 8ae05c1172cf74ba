"""NumPy arrays whose statements raise the faults they meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import memprot._native as _native

if TYPE_CHECKING:
    import numpy
    import numpy.typing

__all__ = ["array_over"]


def array_over(
    view: memoryview, dtype: numpy.typing.DTypeLike, shape: int | tuple[int, ...] | None
) -> numpy.ndarray[Any, Any]:
    """An array over the bytes of a view.

    Statements on it and on views of it, such as ``array[i] = x`` or ``array += 1``, raise the faults they meet
    themselves; those on other arrays may raise one statement later. Copies of it and results computed from it are plain
    arrays.

    :param view: of bytes.
    :param dtype: of the elements.
    :param shape: one dimension for None, as many elements as fit.
    :raises ValueError: the shape needs more bytes than there are; the elements would be references to objects.

    >>> from memprot import FaultError, Region, catch_faults
    >>> region = Region(4096)
    >>> array = array_over(memoryview(region), "f8", None)
    >>> region.protect("r--")
    >>> with catch_faults():
    ...     try:
    ...         array[3] = 1
    ...     except FaultError as fault:
    ...         print(fault.offset)
    24
    """
    import numpy

    kind = numpy.dtype(dtype)
    if kind.hasobject:
        raise ValueError(f"{kind} has references to objects in it, which bytes cannot keep alive")
    flat = (view.nbytes // kind.itemsize,) if shape is None else shape
    made: type[numpy.ndarray[Any, Any]] = _native.array_type(numpy.ndarray, numpy.flatiter)
    return made(flat, kind, buffer=view)
