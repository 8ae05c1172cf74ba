"""Faults that are the same but for their time: told once, counted afterwards."""

from collections.abc import Hashable, Iterator

from memprot.faults.record import Block, FaultRecord

__all__ = ["Folding", "likeness"]

# Of a native stack that count: callers further out say little of a block.
_FRAMES = 4


def likeness(record: FaultRecord) -> Hashable:
    """What two faults share when one report tells both: the rule, the access, the code, the block's origin and end.

    Args:
        record: a fault.

    >>> from memprot.faults.record import FaultThread
    >>> thread = FaultThread(7, None)
    >>> record = FaultRecord("bus", "read", 8, 4096, None, False, 7, None, None, (), thread, None)
    >>> likeness(record)
    ('bus', 'read', None, None, None)
    """
    line = record.python[0] if record.python else None
    block = record.block
    return (
        record.kind,
        record.access,
        record.native[0].address if record.native else None,
        None if line is None else (line.file, line.line),
        None if block is None else _life(block),
    )


def _life(block: Block) -> Hashable:
    return (
        block.allocator,
        block.allocated,
        block.freed,
        tuple(frame.address for frame in block.allocated_native[:_FRAMES]),
        tuple(frame.address for frame in block.freed_native[:_FRAMES]),
    )


class Folding:
    """Faults in the order of their first appearance, each with how many like it there were.

    Attributes:
        total: how many faults there were in all.

    >>> from memprot.faults.record import FaultThread
    >>> thread = FaultThread(7, None)
    >>> record = FaultRecord("bus", "read", 8, 4096, None, False, 7, None, None, (), thread, None)
    >>> folding = Folding()
    >>> folding.add(record), folding.add(record), len(folding), folding.total
    (True, False, 1, 2)
    """

    __slots__ = ("_entries", "total")

    def __init__(self) -> None:
        self.total = 0
        self._entries: dict[Hashable, tuple[FaultRecord, int]] = {}

    def add(self, record: FaultRecord) -> bool:
        """Count a fault; whether it is the first of its likeness."""
        self.total += 1
        key = likeness(record)
        first, count = self._entries.get(key, (record, 0))
        self._entries[key] = (first, count + 1)
        return count == 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[FaultRecord, int]]:
        return iter(list(self._entries.values()))
