"""Which faults belong to which report of pytest's, and how they are told there: in full once, then by a reference."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import _pytest
import pluggy

from memprot.faults.error import FaultError
from memprot.faults.headline import display_place, headline
from memprot.faults.ink import Ink
from memprot.faults.origin import program_frame
from memprot.faults.report import render
from memprot.printable import printable
from memprot.run.folding import likeness
from memprot.run.pytest_failure import Crash, Failure

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from memprot.faults.record import FaultRecord, PythonFrame

__all__ = ["Telling"]

# Those who call tests.
_PYTEST = tuple(os.path.join(folder, "") for package in (_pytest, pluggy) for folder in package.__path__)


class Telling:
    """Hears of faults in any thread, and tells each in one report.

    >>> Telling().take()
    []
    """

    def __init__(self) -> None:
        self._heard: list[FaultRecord] = []
        self._first: dict[Hashable, str] = {}
        self._ink = Ink(color=True, unicode=_is_unicode())

    def hear(self, record: FaultRecord) -> None:
        """Keep a fault until a report is made.

        Args:
            record: of the fault.
        """
        self._heard.append(record)

    def take(self) -> list[FaultRecord]:
        """The faults since the last time, oldest first."""
        taken, self._heard = self._heard, []
        return taken

    def tell(self, report: Any, error: BaseException | None, place: tuple[str, int]) -> None:
        """Put the faults since the last time into a report: as its failure where it has failed.

        Args:
            report: of a test's phase, a part of a test, or of collection.
            error: what it has failed of; None for nothing.
            place: file and line of the test, for faults that no line of Python has made.
        """
        heard = self.take()
        if not report.failed:
            if heard:
                report.memprot_passed = [headline(record) for record in heard]
                report.sections.append(("memory faults that failed nothing", "\n".join(report.memprot_passed)))
            return
        ids = {id(record) for record in heard}
        raised = [record for record in _records(error) if id(record) not in ids]
        records = [*raised, *heard]
        if not records:
            return
        report.memprot_faults = len(records)
        alone = isinstance(error, FaultError) and error.__context__ is None and error.__cause__ is None
        rest = None if alone else report.longrepr
        texts = [self.text(record, report.nodeid) for record in records]
        report.longrepr = Failure(texts, _crash(records, rest, place), rest)
        # pytest makes other reports of this one, some of which keep plain data only.
        report.memprot_failure = report.longrepr.as_data()

    def text(self, record: FaultRecord, where: str) -> str:
        """A fault in full, or by whom it has been told already.

        Args:
            record: of the fault.
            where: the test.
        """
        record = record._replace(python=_without_pytest(record.python))
        # One bug in a library meets the arrays of many tests.
        first = self._first.setdefault(likeness(record._replace(block=None)), where)
        if first == where:
            return render(record, "raise", self._ink)
        ink = self._ink
        lines = [ink.line(("bold red", f"memprot: {headline(record)}")), ink.line(("dim", "│"))]
        for depth, frame in enumerate(record.python or ()):
            label = "called from" if depth else "running"
            place = f"{printable(frame.function)}, {display_place(frame)}"
            lines.append(ink.line(("dim", "│ "), ("cyan", label.ljust(12)), ("plain", place)))
        lines += [ink.line(("dim", "│")), ink.line(("dim", "╰─ "), ("plain", f"The same as in {first}, told there."))]
        return "\n".join(lines) + "\n"


def _without_pytest(frames: tuple[PythonFrame, ...] | None) -> tuple[PythonFrame, ...] | None:
    """The frames of the test and of what it has called; all where pytest itself was at work."""
    for at, frame in enumerate(frames or ()):
        if frame.file.startswith(_PYTEST):
            return (frames or ())[:at] or frames
    return frames


def _records(error: BaseException | None, seen: frozenset[int] = frozenset()) -> Iterator[FaultRecord]:
    """Of the faults that an exception is, came with, or has come from."""
    if error is None or id(error) in seen:
        return
    seen |= {id(error)}
    if isinstance(error, FaultError):
        for fault in (error, *error.others):
            if fault.record is not None:
                yield fault.record
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _records(one, seen)
    yield from _records(error.__cause__ or error.__context__, seen)


def _crash(records: list[FaultRecord], rest: Any, place: tuple[str, int]) -> Crash:
    record = records[0]
    words = headline(record)
    if len(records) > 1:
        words += f" (and {len(records) - 1} more)"
    own = getattr(rest, "reprcrash", None)
    if own is not None:
        return Crash(own.path, own.lineno, f"{own.message.splitlines()[0]}; memory fault: {words}")
    frame = (program_frame(record.python) or record.python[0]) if record.python else None
    if frame is None:
        return Crash(*place, f"FaultError: {words}")
    file, _, line = display_place(frame).rpartition(":")
    return Crash(file, int(line), f"FaultError: {words}")


def _is_unicode() -> bool:
    try:
        "│╰─├┤█…·".encode(getattr(sys.__stdout__, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
