"""Starting pytest anew in a process whose malloc is memprot's: a library cannot come before it later on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import memprot._native as _native
from memprot.run import preload

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["hide_library", "with_guarded_malloc"]

_RESTARTED = "MEMPROT_PYTEST_RESTARTED"
_BY_HAND = "start it with: memprot run --guard malloc -m pytest --memprot=malloc"


def with_guarded_malloc(arguments: Sequence[object]) -> None:
    """Replace this process by one that runs the same pytest; return in the one whose malloc is memprot's.

    Args:
        arguments: that pytest was given.

    Raises:
        RuntimeError: pytest was not started by a command line, or the library is not there; one sentence.
        OSError: the kernel refuses to start the interpreter.

    Source: execve(2), ld.so(8) under LD_PRELOAD.

    >>> try:
    ...     with_guarded_malloc(["--memprot=malloc", "of another program"])
    ... except RuntimeError as error:
    ...     print(error)
    pytest cannot be started anew with a guarded malloc from inside another program; start it with: memprot run \
--guard malloc -m pytest --memprot=malloc
    """
    if _native.malloc_is_ours():
        os.environ.pop(_RESTARTED, None)
        return
    if os.environ.get(_RESTARTED):
        raise RuntimeError(f"the library that guards malloc was not loaded into this Python; {_BY_HAND}")
    if [str(argument) for argument in arguments] != sys.argv[1:] or not _is_pytest(sys.argv[0]) or not sys.executable:
        raise RuntimeError(
            f"pytest cannot be started anew with a guarded malloc from inside another program; {_BY_HAND}"
        )
    try:
        environment = preload.environment(os.environ)
    except preload.CannotPreloadError as error:
        raise RuntimeError(str(error)) from error
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**environment, _RESTARTED: "1"})


def hide_library() -> None:
    """Leave the programs that tests start without the library; this process keeps it.

    >>> os.environ["LD_PRELOAD"] = f"{preload.LIBRARY}:/lib/of/mine.so"
    >>> hide_library()
    >>> os.environ.pop("LD_PRELOAD")
    '/lib/of/mine.so'
    """
    words = os.environ.get("LD_PRELOAD", "").split(":")
    if preload.LIBRARY in words:
        words.remove(preload.LIBRARY)
        if words:
            os.environ["LD_PRELOAD"] = ":".join(words)
        else:
            del os.environ["LD_PRELOAD"]


def _is_pytest(program: str) -> bool:
    name = os.path.basename(program)
    return name in ("pytest", "py.test") or (
        name == "__main__.py" and os.path.basename(os.path.dirname(program)) == "pytest"
    )
