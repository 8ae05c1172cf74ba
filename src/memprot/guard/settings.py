"""How blocks are guarded, in the form in which C takes it."""

from __future__ import annotations

import os
import re
from typing import Final, Literal, NamedTuple, get_args

from memprot.prot import PAGE_SIZE

__all__ = ["OWNERS", "Settings", "Side", "Target", "bytes_of"]

Target = Literal["numpy", "raw", "mem", "obj", "malloc"]
Side = Literal["right", "left", "random", "turns"]

OWNERS: Final[tuple[Target, ...]] = get_args(Target)
"""Everything that can be guarded, in the order in which C numbers it (enum memprot_guard_owner)."""

_SIDES: Final[tuple[Side, ...]] = get_args(Side)
_PROMISED: Final = 16  # what malloc(3) aligns blocks to, and what stands on it
_MOST_SAMPLED: Final = 1_000_000_000
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE: Final = re.compile(r"([0-9]+)\s*([kmg]?)(?:i?b)?", re.IGNORECASE | re.ASCII)


class Settings(NamedTuple):
    """What a target is told when it is guarded.

    Attributes:
        side: as C numbers it (enum memprot_side).
        align: what the address of each block is a multiple of, in bytes.
        sample: one block of so many is guarded.

    >>> Settings.of("malloc", side="left", align=None, sample=1000)
    Settings(side=1, align=16, sample=1000)
    """

    side: int
    align: int
    sample: int

    @staticmethod
    def of(target: Target, side: Side, align: int | None, sample: int) -> Settings:
        """Check what the user said.

        Args:
            target: whose blocks they are.
            side: which end of a block lies at a guard.
            align: in bytes; None for what the allocator promises.
            sample: one block of so many.

        Raises:
            ValueError: no such side, alignment or sample.
            TypeError: a number that is no int.

        >>> Settings.of("numpy", side="right", align=None, sample=1).align
        1
        """
        if side not in _SIDES:
            raise ValueError(f"side must be one of {', '.join(map(repr, _SIDES))}, not {side!r}")
        if align is None:
            align = 1 if target == "numpy" else _PROMISED
        _check_int("align", align)
        _check_int("sample", sample)
        if not 1 <= align <= PAGE_SIZE or align & (align - 1):
            raise ValueError(f"align must be a power of two from 1 to the page size, {PAGE_SIZE}, not {align}")
        if not 1 <= sample <= _MOST_SAMPLED:
            raise ValueError(f"sample must be from 1 (every block) to {_MOST_SAMPLED:,} (one in so many), not {sample}")
        return Settings(_SIDES.index(side), align, sample)


def bytes_of(size: int | str) -> int:
    """A number of bytes from what the user said.

    Args:
        size: bytes, or text such as ``"64MiB"``, ``"64M"`` and ``"512k"``: multiples of 1024.

    Raises:
        ValueError: it is no size, or more than the machine has memory.
        TypeError: it is neither int nor str.

    >>> bytes_of("64MiB"), bytes_of("4k"), bytes_of(0)
    (67108864, 4096, 0)
    """
    if isinstance(size, str):
        match = _SIZE.fullmatch(size.strip())
        if match is None:
            raise ValueError(f'{size!r} is no size; say bytes, or a size such as "64MiB"')
        number = int(match[1]) * _UNITS[match[2].lower()]
    else:
        _check_int("a size", size)
        number = size
    memory = os.sysconf("SC_PHYS_PAGES") * PAGE_SIZE
    if not 0 <= number <= memory:
        raise ValueError(f"a size must be from 0 to what the machine has, {memory:,} bytes, not {number:,}")
    return number


def _check_int(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
