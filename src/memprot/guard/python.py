"""Guarded blocks of Python itself: its three domains of memory (PEP 445)."""

from __future__ import annotations

import _tracemalloc
from typing import Final

import memprot._native as _native
from memprot.guard.counts import counts_of
from memprot.guard.settings import OWNERS, Settings, Target

# Python counts on the addresses of objects: the collector keeps bits of its own there, and code is looked at. Large
# objects come from raw memory.
_LEAST_OF_OBJECTS: Final = 16

_taken = False


def enable(target: Target, settings: Settings) -> None:
    """Serve new blocks of a domain from guard pools.

    ``"raw"`` is what Python allocates without holding the interpreter and every block above 512 bytes, ``"mem"``
    buffers, ``"obj"`` objects and some buffers. What may be an object, ``"raw"`` too, is aligned to 16 bytes at least.

    :raises RuntimeError: tracemalloc is on, or this Python's objects have to stay with its own allocator.

    >>> enable("mem", Settings(side=0, align=16, sample=1))
    >>> len(bytearray(100))
    100
    >>> disable("mem")
    """
    global _taken
    # Its stop() puts back the functions that it found, which could not free what ours have handed out meanwhile.
    if not _taken and _tracemalloc.is_tracing():
        raise RuntimeError("tracemalloc is on, and would take the guards' functions away at its stop; start it later")
    if target != "mem":
        settings = settings._replace(align=max(settings.align, _LEAST_OF_OBJECTS))
    _native.allocator_enable(OWNERS.index(target), *settings)
    _taken = True


def disable(target: Target) -> None:
    """Serve new blocks by Python's own functions again.

    >>> disable("mem")
    """
    _native.allocator_disable(OWNERS.index(target))


def report(target: Target) -> dict[str, int]:
    """What was guarded so far.

    >>> report("mem")["blocks"] >= 0
    True
    """
    return counts_of(target)
