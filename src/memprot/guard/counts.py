"""What was guarded, as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import memprot._native as _native
from memprot.guard.settings import OWNERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memprot.guard.settings import Target

__all__ = ["counts_as_told", "counts_of"]


def counts_of(target: Target) -> dict[str, int]:
    """What C has counted for one target.

    Args:
        target: whose blocks.

    Returns:
        ``blocks`` and ``bytes`` guarded since the start, ``live_blocks`` and ``live_bytes`` of these in use,
        ``unguarded`` for want of memory, ``left_alone`` because they are from before, ``sampled_out`` because others
        were the sample, ``overhead`` in bytes at most, ``quarantined`` bytes now, and ``slack``: blocks beside which
        something was overwritten. NumPy's blocks are ``arrays``.

    >>> list(counts_of("numpy"))[:2], list(counts_of("raw"))[:2]
    (['arrays', 'bytes'], ['blocks', 'bytes'])
    """
    return counts_as_told(target, _native.guard_statistics(OWNERS.index(target)).values())


def counts_as_told(target: Target, counts: Iterable[int]) -> dict[str, int]:
    """The numbers of C with their names.

    Args:
        target: whose blocks they are of.
        counts: in C's order.

    >>> counts_as_told("numpy", range(10))["live_arrays"]
    2
    """
    blocks = "arrays" if target == "numpy" else "blocks"
    names = (name.replace("blocks", blocks) for name in _native.guard_statistics(0))
    return dict(zip(names, counts, strict=True))
