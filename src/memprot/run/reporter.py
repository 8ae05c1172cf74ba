"""Starting the reporter (:mod:`memprot.run.crash`) from a process that dies; light, as every program loads it."""

import os
import sys

__all__ = ["command"]


def command(policy: str, document: str | None, first: int | None = None) -> list[bytes]:
    """How a dying process starts the reporter.

    Args:
        policy: what happens to faults that can be recovered: ``raise``, ``log`` or ``abort``.
        document: the path of the run's document, which the reporter completes.
        first: of a program without Python (:mod:`memprot.run.native_reporter`), the process that was launched.

    >>> command("raise", None)[-1]
    b''
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = "import sys; sys.path.insert(0, sys.argv[1]); from importlib import import_module; "
    code += "import_module(sys.argv[2]).main(*sys.argv[3:])"
    module, more = ("crash", ()) if first is None else ("native_reporter", (str(first),))
    words = (sys.executable, "-I", "-c", code, root, f"memprot.run.{module}", policy, document or "", *more)
    return [os.fsencode(word) for word in words]
