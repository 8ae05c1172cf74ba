"""What was guarded, as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import memprot._native as _native
from memprot.guard.settings import OWNERS

if TYPE_CHECKING:
    from memprot.guard.settings import Target

__all__ = ["counts_of"]


def counts_of(target: Target) -> dict[str, int]:
    """What C has counted for one target.

    Args:
        target: whose blocks.

    Returns:
        ``blocks`` and ``bytes`` guarded since the start, ``live_blocks`` and ``live_bytes`` of these in use,
        ``unguarded`` for want of memory, ``left_alone`` because they are from before, ``sampled_out`` because others
        were the sample, ``overhead`` in bytes at most, ``quarantined`` bytes now, and ``slack``: blocks beside which
        something was overwritten.

    >>> sorted(counts_of("numpy"))[:3]
    ['blocks', 'bytes', 'left_alone']
    """
    return _native.guard_statistics(OWNERS.index(target))
