"""The NumPy array over a block of memory, looked for among the variables of running frames."""

import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, NamedTuple

from memprot.faults.record import Element

__all__ = ["FoundArray", "find_array"]

_MOST_NAMES = 20_000
_OPTIMIZED = 1  # CO_OPTIMIZED (Include/cpython/code.h): locals are in no mapping of the program's choice

_mro_of = type.__dict__["__mro__"].__get__


class FoundArray(NamedTuple):
    """An array as a report names it.

    Attributes:
        dtype: as ``str(array.dtype)``.
        shape: its lengths.
        name: of the variable that holds it.
        address: of its first element.
        strides: in bytes.
        itemsize: in bytes.

    >>> FoundArray("float64", (100,), "out", 0x1000, (8,), 8).name
    'out'
    """

    dtype: str
    shape: tuple[int, ...]
    name: str
    address: int
    strides: tuple[int, ...]
    itemsize: int

    def element_at(self, address: int) -> Element | None:
        """Which element would be at an address, if the array went on along its outermost axis.

        Args:
            address: any.

        Returns:
            None where there is more than one answer, or none.

        >>> FoundArray("float64", (4, 10), "out", 0x1000, (80, 8), 8).element_at(0x1000 + 330)
        Element(number=4, length=4, axis=0)
        """
        axes = [axis for axis, length in enumerate(self.shape) if length > 1]
        if not axes or 0 in self.shape or 0 in (self.strides[axis] for axis in axes):
            return None
        axes.sort(key=lambda axis: -abs(self.strides[axis]))
        outermost, *inner = axes
        # The lowest address of each element of the inner axes, and from there on upwards.
        rest = address - self.address - sum(min(0, (self.shape[axis] - 1) * self.strides[axis]) for axis in inner)
        step = abs(self.strides[outermost])
        turn, rest = divmod(rest, step)
        for axis in inner:
            index, rest = divmod(rest, abs(self.strides[axis]))
            if index >= self.shape[axis]:
                return None
        if rest >= self.itemsize:
            return None
        return Element(turn if self.strides[outermost] > 0 else -turn, self.shape[outermost], outermost)


def find_array(address: int, nbytes: int, frames: Iterable[FrameType]) -> FoundArray | None:
    """The array over a block, among the locals of the frames and then their globals.

    It never imports NumPy, never raises and never calls code of the program: whatever a subclass of ndarray
    overrides, the descriptors of ndarray itself are asked. The work is bounded, so an array may be missed in
    a program with tens of thousands of variables.

    Args:
        address: of the block's first byte.
        nbytes: of the block.
        frames: live frames, innermost first.

    Returns:
        The first array that covers the block exactly, else the first that lies inside it, else None.

    >>> import sys
    >>> find_array(0x1000, 800, [sys._getframe()]) is None
    True
    """
    try:
        ndarray = vars(sys.modules["numpy"])["ndarray"] if "numpy" in sys.modules else None
        if type(ndarray) is not type:
            return None
        inside = None
        for name, value in _variables(frames):
            if not any(base is ndarray for base in _mro_of(type(value))):
                continue
            extent = _extent(ndarray, value)
            if extent == (address, address + nbytes):
                return _describe(ndarray, value, name)
            if inside is None and address <= extent[0] < extent[1] <= address + nbytes:
                inside = (value, name)
        return None if inside is None else _describe(ndarray, *inside)
    except Exception:  # noqa: BLE001 (it runs in the middle of a fault: a report without a name beats none)
        return None


def _variables(frames: Iterable[FrameType]) -> Iterator[tuple[str, object]]:
    left = _MOST_NAMES
    for namespace in _namespaces(list(frames)):
        left -= len(namespace)
        if left < 0:
            return
        # A copy, which runs no Python: another thread may add a name meanwhile.
        yield from ((name, value) for name, value in list(namespace.items()) if type(name) is str)


def _namespaces(frames: list[FrameType]) -> Iterator[dict[str, object]]:
    seen: set[int] = set()
    for frame in frames:
        if frame.f_code.co_flags & _OPTIMIZED:
            yield dict(frame.f_locals)
        elif type(frame.f_locals) is dict:
            seen.add(id(frame.f_locals))
            yield frame.f_locals
    for frame in frames:
        if type(frame.f_globals) is dict and id(frame.f_globals) not in seen:
            seen.add(id(frame.f_globals))
            yield frame.f_globals


def _extent(ndarray: Any, array: object) -> tuple[int, int]:
    """The addresses of the array's first byte and behind its last, for any strides."""
    start: int = ndarray.__array_interface__.__get__(array)["data"][0]
    shape = ndarray.shape.__get__(array)
    if 0 in shape:
        return start, start
    spans = [(length - 1) * stride for length, stride in zip(shape, ndarray.strides.__get__(array), strict=True)]
    first = start + sum(span for span in spans if span < 0)
    return first, start + sum(span for span in spans if span > 0) + ndarray.itemsize.__get__(array)


def _describe(ndarray: Any, array: object, name: str) -> FoundArray:
    return FoundArray(
        str(ndarray.dtype.__get__(array)),
        tuple(ndarray.shape.__get__(array)),
        name,
        ndarray.__array_interface__.__get__(array)["data"][0],
        tuple(ndarray.strides.__get__(array)),
        ndarray.itemsize.__get__(array),
    )
