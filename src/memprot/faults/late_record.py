"""A fault that is written down at once and completed when somebody looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memprot.faults.native_record import as_record, from_row

if TYPE_CHECKING:
    from memprot.faults.mapped_file import MappedFile
    from memprot.faults.record import FaultRecord

__all__ = ["LateRecord"]


class LateRecord:
    """What the handler wrote down, and the record made of it.

    Completing a record takes many times longer than a fault: it names functions, arrays and mappings. Whoever looks
    first completes it for all: the exception and the history share one.

    Args:
        row: as the binding hands it over.

    Attributes:
        beneath: the file that could not give the page, where somebody has looked at it in time.

    >>> row = (1, 4242, "python", 11, 1, 0x10000, 8, False, None, bytes(8), None, 0, -1)
    >>> LateRecord(row).record.access
    'write'
    """

    __slots__ = ("_record", "beneath", "row")

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.row = row
        self.beneath: MappedFile | None = None
        self._record: FaultRecord | None = None

    @property
    def record(self) -> FaultRecord:
        """The complete record, always the same one."""
        if self._record is None:
            self._record = as_record(from_row(self.row))
            if self.beneath is not None:
                self._record = self._record._replace(file=self.beneath)
        return self._record
