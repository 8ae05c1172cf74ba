"""The suppressions of one run: in force, counted, and summed up at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import memprot._native as _native
from memprot.run.suppressions import read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memprot.run.suppressions import Suppression

__all__ = ["last_words", "suppress"]


def suppress(paths: Sequence[str]) -> Callable[[], list[tuple[Suppression, int]]]:
    """Put the suppressions of files in force.

    Args:
        paths: in their order; of two suppressions that match, the first counts.

    Returns:
        What tells how many faults each has kept from being told.

    Raises:
        SuppressionsError: a file cannot be read or understood.

    >>> suppress([])()
    []
    """
    known = read(paths)
    _native.set_suppressions([(one.kinds, one.accesses, one.frames) for one in known])
    return lambda: list(zip(known, _native.suppressed(), strict=True))


def last_words(counts: Sequence[tuple[Suppression, int]]) -> str:
    """What a run has suppressed, and which suppressions it did not need.

    Args:
        counts: each suppression with its faults.

    >>> from memprot.run.suppressions import Suppression
    >>> counts = [(Suppression("a", "x.supp:1", 1, 1, ()), 2), (Suppression("b", "x.supp:5", 1, 1, ()), 0)]
    >>> print(last_words(counts), end="")
    memprot: 2 faults were suppressed: 2 by 'a' (x.supp:1).
    memprot: the suppression 'b' (x.supp:5) matched nothing.
    """
    total = sum(count for _, count in counts)
    lines = []
    if total:
        were = "fault was" if total == 1 else "faults were"
        by = ", ".join(f"{count:,} by {one.name!r} ({one.place})" for one, count in counts if count)
        lines.append(f"memprot: {total:,} {were} suppressed: {by}.\n")
    lines += [f"memprot: the suppression {one.name!r} ({one.place}) matched nothing.\n" for one, n in counts if not n]
    return "".join(lines)
