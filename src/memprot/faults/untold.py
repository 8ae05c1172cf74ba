"""Faults that become nobody's exception: they are logged, or handed to ``sys.unraisablehook``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import memprot._native as _native

if TYPE_CHECKING:
    from memprot.faults.error import FaultError

__all__ = ["tell"]


def tell(fault: FaultError, *, raising: bool) -> None:
    """Tell of a fault that nobody raises.

    What a policy lets pass goes to the logger ``memprot.faults`` as a warning of one line, with the record as the log
    record's ``fault``; the place it names is the Python line that was running. What should be raised, but in a thread
    that runs no Python, goes to ``sys.unraisablehook``; its ``object`` says which thread.

    Args:
        fault: with a record.
        raising: whether it should have been raised.

    >>> callable(tell)
    True
    """
    if raising:
        _native.give_to_unraisable_hook(fault, _thread(fault))
    else:
        _log(fault)


def _thread(fault: FaultError) -> str:
    if fault.thread is None:
        return "a thread without Python"
    return f"thread {fault.thread.id} ({fault.thread.name}), which runs no Python"


def _log(fault: FaultError) -> None:
    # Here, because a program that never logs does not load it.
    import logging

    logger = logging.getLogger("memprot.faults")
    if not logger.isEnabledFor(logging.WARNING):
        return
    record = fault.record
    frame = record.python[0] if record is not None and record.python else None
    file, line, function = ("(unknown file)", 0, None) if frame is None else frame
    text = str(fault) if frame is None else f"{fault} ({file}:{line})"
    entry = logger.makeRecord(
        logger.name, logging.WARNING, file, line, text, (), None, function, extra={"fault": record}
    )
    logger.handle(entry)
