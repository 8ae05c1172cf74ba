"""Faults that were raised where no test can see it: at the end of a thread, in a finalizer."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from memprot.faults.error import FaultError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["gathered_escapes"]


@contextmanager
def gathered_escapes() -> Iterator[None]:
    """Raise at the end, if nothing else is raised, the first fault that ended a thread or came out of a finalizer.

    Everything else that ends threads and comes out of finalizers reaches the hooks that were there before.

    Raises:
        FaultError: there was one.

    Source: https://docs.python.org/3/library/threading.html#threading.excepthook and ``sys.unraisablehook``.

    >>> import threading
    >>> def ends():
    ...     raise FaultError("a fault")
    >>> try:
    ...     with gathered_escapes():
    ...         thread = threading.Thread(target=ends)
    ...         thread.start()
    ...         thread.join()
    ... except FaultError as fault:
    ...     print(fault)
    a fault
    """
    gathered: list[FaultError] = []
    of_threads, of_finalizers = threading.excepthook, sys.unraisablehook

    def thread_ended(arguments: Any) -> None:
        if isinstance(arguments.exc_value, FaultError):
            gathered.append(arguments.exc_value)
        else:
            of_threads(arguments)

    def unraisable(arguments: Any) -> None:
        if isinstance(arguments.exc_value, FaultError):
            gathered.append(arguments.exc_value)
        else:
            of_finalizers(arguments)

    threading.excepthook, sys.unraisablehook = thread_ended, unraisable
    try:
        yield
    finally:
        # A test that has put one of its own there and has not taken it away keeps it.
        if threading.excepthook is thread_ended:
            threading.excepthook = of_threads
        if sys.unraisablehook is unraisable:
            sys.unraisablehook = of_finalizers
    if gathered:
        raise gathered[0]
