"""How blocks are guarded, in the form in which C takes it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

from memprot.prot import PAGE_SIZE

__all__ = ["MOST_SAMPLED", "OWNERS", "Settings", "Side", "Target"]

Target = Literal["numpy", "raw", "mem", "obj", "malloc"]
Side = Literal["right", "left", "random", "turns"]

OWNERS: Final[tuple[Target, ...]] = get_args(Target)
"""Everything that can be guarded, in the order in which C numbers it (enum memprot_guard_owner)."""

_SIDES: Final[tuple[Side, ...]] = get_args(Side)
_PROMISED: Final = 16  # what malloc(3) aligns blocks to, and what stands on it
MOST_SAMPLED: Final = 1_000_000_000


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
        if not 1 <= sample <= MOST_SAMPLED:
            raise ValueError(f"sample must be from 1 (every block) to {MOST_SAMPLED:,} (one in so many), not {sample}")
        return Settings(_SIDES.index(side), align, sample)


def _check_int(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
