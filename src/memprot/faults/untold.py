"""Faults that become nobody's exception: they are logged, or handed to ``sys.unraisablehook``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import memprot._native as _native

if TYPE_CHECKING:
    from memprot.faults.error import FaultError

__all__ = ["log", "raise_in_vain"]


def log(fault: FaultError) -> None:
    """Log a fault that a policy lets pass: one warning of the logger ``memprot.faults``.

    The place that it names is the Python line that was running; the log record's ``fault`` is the fault's record.
    Nothing is done, or printed, in a program that has no handler for it: nobody reads its log.

    Args:
        fault: with a record.

    >>> callable(log)
    True
    """
    logging = sys.modules.get("logging")
    if logging is None:
        return
    logger = logging.getLogger("memprot.faults")
    if not logger.isEnabledFor(logging.WARNING) or not logger.hasHandlers():
        return
    record = fault.record
    frame = record.python[0] if record is not None and record.python else None
    file, line, function = ("(unknown file)", 0, None) if frame is None else frame
    text = str(fault) if frame is None else f"{fault} ({file}:{line})"
    entry = logger.makeRecord(
        logger.name, logging.WARNING, file, line, text, (), None, function, extra={"fault": record}
    )
    logger.handle(entry)


def raise_in_vain(error: BaseException) -> None:
    """Hand to ``sys.unraisablehook`` what there was to raise in a thread that will not raise it.

    Its ``object`` says which thread that is, where it is known.

    Args:
        error: a fault, or what a policy has raised of one.

    >>> import sys
    >>> sys.unraisablehook = lambda unraisable: print(unraisable.exc_value)
    >>> raise_in_vain(ValueError("words"))
    words
    >>> sys.unraisablehook = sys.__unraisablehook__
    """
    thread = getattr(error, "thread", None)
    whose = "a thread that cannot raise it" if thread is None else f"thread {thread.id} ({thread.name})"
    _native.give_to_unraisable_hook(error, whose)
