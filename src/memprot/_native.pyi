"""The manual of memprot's C extension: what crosses between C and Python, with no policy in it."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

# What the process leaves behind (_native/exit.c)

def set_exit(
    pid: int, path: bytes | None, head: bytes, body: bytes, words: bytes, listed: bool, replacement: int
) -> None:
    """Say what the process leaves behind when it ends by exit(3); an earlier call is forgotten.

    :param pid: the process that leaves it: forked children leave nothing.
    :param path: of the document; None for no document.
    :param head: the document up to the exit status, which only C knows.
    :param body: the document behind the status, up to the last fault; ``]}`` and a newline follow it.
    :param words: written to standard error.
    :param listed: whether ``body`` ends with a fault.
    :param replacement: what status 0 becomes; 0 leaves it.
    :raises OSError: there is no memory for the copies.

    Source: on_exit(3).

    >>> import subprocess, sys
    >>> program = "from memprot import _native; import os; "
    >>> program += "_native.set_exit(os.getpid(), None, b'', b'', b'bye', False, 3)"
    >>> done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE)
    >>> done.returncode, done.stderr
    (3, b'bye')
    """

def leave(status: int) -> int:
    """Leave it now instead of at exit(3); what the process is to end with.

    :param status: what the process wants to end with.

    >>> from memprot import _native
    >>> _native.leave(0)
    0
    """

def die(signal: int, fault: bytes = b"") -> None:
    """Write the document as that of a process that dies of a signal; nothing when there is none to write.

    :param signal: its number.
    :param fault: the JSON of a fault that the document does not have yet.
    :raises OSError: with the errno of what could not be done to the file.

    >>> import signal
    >>> from memprot import _native
    >>> _native.die(signal.SIGSEGV)
    """

def write_document(path: bytes, document: bytes) -> None:
    """Replace a file as a whole, or write to the pipe or terminal that the path leads to.

    :param path: of the file; its symbolic links are replaced, not followed.
    :param document: all of its content.
    :raises OSError: with the errno of what could not be done to the file.

    Source: rename(2).

    >>> import os, pathlib, tempfile
    >>> from memprot import _native
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "report.json")
    ...     _native.write_document(os.fsencode(path), b"{}")
    ...     path.read_text(), os.listdir(folder)
    ('{}', ['report.json'])
    """

# Functions in another's place (_native/interpose.c)

def interpose(
    function: Callable[_P, _R],
    before: Callable[..., object] | None = None,
    after: Callable[..., object] | None = None,
) -> Callable[_P, _R]:
    """A builtin that does what ``function`` does and has its name, module, signature and documentation.

    It leaves no frame in tracebacks, and pickles as ``function`` does once it has taken its place.

    :param function: a builtin function.
    :param before: called with the same arguments first.
    :param after: called with the same arguments when ``function`` has not raised. What the two return is
        dropped; what they raise goes to :func:`sys.unraisablehook`.
    :raises TypeError: ``function`` is no builtin.

    >>> from memprot import _native
    >>> said = []
    >>> _native.interpose(len, before=said.append)("three"), said
    (5, ['three'])
    """
