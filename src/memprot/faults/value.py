"""The bytes of a value, as a person reads them."""

from __future__ import annotations

import struct
import sys

__all__ = ["describe_value"]

_CODES = {
    "bool": "?",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float16": "e",
    "float32": "f",
    "float64": "d",
}
_MOST_ELEMENTS = 4
_WORD = 8


def describe_value(value: bytes, dtype: str | None) -> str:
    """What was to be written: as elements of the array where it is known, else as a number or as bytes.

    Args:
        value: in the order of memory.
        dtype: of the array, as ``str(array.dtype)``; None when none is known.

    >>> describe_value(struct.pack("dd", 1.5, -2), "float64"), describe_value(bytes([42, 0, 0, 0]), None)
    ('1.5, -2.0 (float64)', '42, 0x0000002a')
    """
    code = None if dtype is None else _CODES.get(dtype)
    if code is not None and len(value) % struct.calcsize(code) == 0:
        elements = [repr(element) for (element,) in struct.iter_unpack(code, value)]
        more = "" if len(elements) <= _MOST_ELEMENTS else f" and {len(elements) - _MOST_ELEMENTS} more"
        return f"{', '.join(elements[:_MOST_ELEMENTS])}{more} ({dtype})"
    if len(value) <= _WORD:
        number = int.from_bytes(value, sys.byteorder)
        return f"{number}, {number:#0{2 + 2 * len(value)}x}"
    return f"bytes {value[:16].hex(' ')}" + (" …" if len(value) > 16 else "")
