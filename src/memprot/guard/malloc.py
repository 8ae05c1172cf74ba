"""Guarded blocks of the C library's malloc, where memprot's library was preloaded in front of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import memprot._native as _native
from memprot.guard.counts import counts_of

if TYPE_CHECKING:
    from memprot.guard.settings import Settings, Target


def enable(target: Target, settings: Settings) -> None:
    """Serve new blocks of malloc from guard pools, whoever in the process asks for them.

    :raises RuntimeError: the library is not in the process.

    >>> from memprot.guard.settings import Settings
    >>> try:
    ...     enable("malloc", Settings(side=0, align=16, sample=1000))
    ... except RuntimeError as error:
    ...     print(str(error).endswith("memprot run --guard malloc"))
    ... else:
    ...     disable("malloc")
    True
    """
    _native.malloc_configure(settings.sample, settings.side, settings.align)


def disable(target: Target) -> None:
    """Serve new blocks by the C library again.

    >>> disable("malloc")
    """
    if _native.malloc_is_ours():
        _native.malloc_configure(0, 0, 1)


def report(target: Target) -> dict[str, int]:
    """What was guarded so far.

    >>> report("malloc")["blocks"] >= 0
    True
    """
    counts = counts_of("malloc")
    return counts | {"sampled_out": counts["sampled_out"] + _native.malloc_sampled_out()}
