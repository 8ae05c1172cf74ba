"""Starting the reporter (:mod:`memprot.run.crash`) from a process that dies; light, as every program loads it."""

import os
import sys

__all__ = ["command"]


def command(policy: str, document: str | None) -> list[bytes]:
    """How a dying process starts the reporter.

    Args:
        policy: what happens to faults that can be recovered: ``raise``, ``log`` or ``abort``.
        document: the path of the run's document, which the reporter completes.

    >>> command("raise", None)[-1]
    b''
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = "import sys; sys.path.insert(0, sys.argv[1]); from memprot.run.crash import main; main(*sys.argv[2:])"
    return [os.fsencode(word) for word in (sys.executable, "-I", "-c", code, root, policy, document or "")]
