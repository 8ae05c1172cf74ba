"""Amounts of memory as people write them.

>>> from memprot.size import parse_size
>>> parse_size("64MiB")
67108864
"""

import os

__all__ = ["parse_part_of_memory", "parse_size"]

_UNITS = ("", "K", "M", "G", "T")


def parse_size(size: int | str) -> int:
    """An amount of memory in bytes.

    :param size: bytes, or text: a whole number and ``B``, ``KiB``, ``MiB``, ``GiB`` or ``TiB``. Bytes may go without
        their unit, ``K`` and ``KiB`` mean the same, and so do small letters.
    :raises ValueError: a negative number, or text that says no size.
    :raises TypeError: neither int nor str.

    >>> from memprot.size import parse_size
    >>> parse_size("1 GiB") == parse_size("1024M") == 1 << 30
    True
    """
    if isinstance(size, str):
        number, unit = _split(size)
        if not number.isascii() or not number.isdecimal() or unit not in _UNITS:
            raise ValueError(f"{size!r} is no amount of memory; write bytes, or a number with its unit, such as 64MiB")
        return int(number) << 10 * _UNITS.index(unit)
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"an amount of memory is an int or a str such as '64MiB', not {type(size).__name__}")
    if size < 0:
        raise ValueError(f"an amount of memory cannot be negative, as {size} is")
    return size


def parse_part_of_memory(size: int | str) -> int:
    """The same for an amount that this machine has to have.

    :param size: as for :func:`parse_size`.
    :raises ValueError: as :func:`parse_size`, and for more than the machine's memory.
    :raises TypeError: as :func:`parse_size`.

    Source: sysconf(3).

    >>> from memprot.size import parse_part_of_memory
    >>> parse_part_of_memory("4KiB")
    4096
    """
    number = parse_size(size)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if number > memory:
        raise ValueError(f"{size} is more than this machine's memory, {memory >> 20} MiB; choose less")
    return number


def _split(text: str) -> tuple[str, str]:
    """The digits, and the unit's letter."""
    word = text.strip().upper()
    number = word.rstrip("BIKMGT ")
    unit = word[len(number) :].strip()
    return number, unit[0] if unit in {f"{letter}IB" for letter in "KMGT"} else "" if unit == "B" else unit
