"""Guarded NumPy arrays."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

import memprot._native as _native
from memprot.guard.counts import counts_of

if TYPE_CHECKING:
    from types import ModuleType

    from memprot.guard.settings import Settings, Target

# NumPy 2 and NumPy 1 name their extension module differently.
EXTENSIONS = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")


def _extension() -> ModuleType:
    for name in EXTENSIONS:
        if name in sys.modules:
            return sys.modules[name]
    try:
        numpy = import_module("numpy")
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        raise ModuleNotFoundError(
            "NumPy is not installed, so its arrays cannot be guarded; install it: python -m pip install numpy",
            name="numpy",
        ) from error
    return import_module(EXTENSIONS[0] if hasattr(numpy, "_core") else EXTENSIONS[1])


def enable(target: Target, settings: Settings) -> None:
    """Serve the data of new arrays from guard pools, and have statements on arrays raise the faults they meet.

    Imports NumPy when the program has not.

    >>> from memprot.guard.settings import Settings
    >>> enable("numpy", Settings(side=0, align=1, sample=1))
    >>> disable("numpy")
    """
    extension = _extension()
    _native.numpy_enable(extension, *settings)
    # A NumPy whose types are not as they are known has guards all the same: statements raise a little later then.
    with suppress(RuntimeError):
        _native.exact_arrays(extension.ndarray, extension.flatiter)


def disable(target: Target) -> None:
    """Serve new arrays by NumPy's own allocator, and leave statements as NumPy has them.

    >>> disable("numpy")
    """
    _native.numpy_disable()
    _native.inexact_arrays()


def report(target: Target) -> dict[str, int]:
    """What was guarded so far.

    >>> report("numpy")["arrays"] >= 0
    True
    """
    return counts_of(target)
