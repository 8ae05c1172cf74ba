"""The library that stands in front of malloc, and how the dynamic linker is told of it."""

import os
from collections.abc import Mapping

from memprot.run.options import Options

__all__ = ["LIBRARY", "WORDS", "CannotPreloadError", "as_words", "environment"]

LIBRARY = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "libmemprot_malloc.so")
"""The library's path, which the linker takes as a word of ``LD_PRELOAD``."""

WORDS = "MEMPROT_MALLOC"
"""The variable that the library reads at the program's start."""

_SEPARATORS = (" ", ":")
_PROMISED = 16  # bytes to which malloc(3) aligns


class CannotPreloadError(Exception):
    """The library cannot be preloaded; the message is one sentence.

    >>> str(CannotPreloadError("It is not there."))
    'It is not there.'
    """


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a program's malloc is ours; what the user preloads comes behind it.

    Args:
        given: the user's.

    Raises:
        CannotPreloadError: the library is not installed, or the linker could not read its path.

    Source: ld.so(8) under LD_PRELOAD.

    >>> environment({"LD_PRELOAD": "mine.so"})["LD_PRELOAD"].endswith("libmemprot_malloc.so:mine.so")
    True
    """
    if not os.path.exists(LIBRARY):
        raise CannotPreloadError(f"{LIBRARY!r} is missing; install memprot again.")
    if any(separator in LIBRARY for separator in _SEPARATORS):
        raise CannotPreloadError(
            f"{LIBRARY!r} cannot be preloaded, because LD_PRELOAD cannot hold a path with a blank or a colon; "
            "install memprot elsewhere."
        )
    return {**given, "LD_PRELOAD": ":".join(filter(None, (LIBRARY, given.get("LD_PRELOAD"))))}


def as_words(options: Options) -> str:
    """How malloc is guarded from the program's start on, as the library reads it in :data:`WORDS`.

    Args:
        options: of the run.

    >>> as_words(Options(sample=1000))
    'sample=1000 side=right align=16 quarantine=0'
    """
    align = options.align or _PROMISED
    return f"sample={options.sample} side={options.side} align={align} quarantine={options.quarantine}"
