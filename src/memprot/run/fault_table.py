"""The distinct faults of a run, a line each: what a reader looks for first when there were many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memprot.faults.headline import display_place
from memprot.faults.origin import program_frame
from memprot.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memprot.faults.ink import Ink, Span
    from memprot.faults.record import FaultRecord

__all__ = ["fault_table"]

_ROWS = 20
_LONGEST_PLACE = 50


def fault_table(faults: Iterable[tuple[FaultRecord, int]], ink: Ink) -> str:
    """A line for each distinct fault, those that came most often first.

    Red are accesses that would have destroyed something, yellow are reads, whose results mean nothing.

    Args:
        faults: each with how many like it there were.
        ink: how lines are written.

    >>> from memprot.faults.ink import Ink
    >>> from memprot.faults.record import FaultRecord, FaultThread, PythonFrame
    >>> frames = (PythonFrame("/app/main.py", 12, "main"),)
    >>> record = FaultRecord("overflow", "write", 8, 0, 0, True, 11, None, frames, (), FaultThread(7, None), None)
    >>> print(fault_table([(record, 1), (record._replace(access="read"), 1200)], Ink()), end="")
     count  kind      access  where
     1,200  overflow  read    /app/main.py:12
         1  overflow  write   /app/main.py:12
    """
    ordered = sorted(faults, key=lambda entry: -entry[1])
    rows = [_row(record, count) for record, count in ordered[:_ROWS]]
    header = ("count", "kind", "access", "where", "in" if any(row[-1] for row in rows) else "")
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = [ink.line(*(("dim", text) for _, text in _cells(header, widths, "dim")))]
    for (record, _), row in zip(ordered, rows, strict=False):
        lines.append(ink.line(*_cells(row, widths, "yellow" if record.access == "read" else "red")))
    if len(ordered) > _ROWS:
        lines.append(ink.line(("dim", f"and {len(ordered) - _ROWS:,} more")))
    return "".join(f"{line}\n" for line in lines)


def _row(record: FaultRecord, count: int) -> tuple[str, ...]:
    frame = None if not record.python else program_frame(record.python) or record.python[0]
    place = "" if frame is None else display_place(frame)
    if len(place) > _LONGEST_PLACE:
        place = f"…{place[1 - _LONGEST_PLACE :]}"
    code = "" if not record.native else record.native[0].function or str(record.native[0])
    return f"{count:,}", record.kind, record.access, place, printable(code)


def _cells(row: tuple[str, ...], widths: list[int], style: str) -> list[Span]:
    count, kind, access, place, code = (text.ljust(width) for text, width in zip(row, widths, strict=True))
    return [
        ("bold", f" {count.strip().rjust(widths[0])}  "),
        (style, f"{kind}  {access}  "),
        ("plain", f"{place}  "),
        ("dim", code),
    ]
