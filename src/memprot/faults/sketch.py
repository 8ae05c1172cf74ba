"""A block and the access that missed it, drawn to be understood at a glance (not to scale)."""

from memprot.faults.headline import count_of
from memprot.faults.ink import Span
from memprot.faults.record import Block, FaultRecord

__all__ = ["sketch"]

_BLOCK = 40
_ACCESS = 8


def sketch(record: FaultRecord) -> list[Span]:
    """The block as a ruler, the access as a bar beside it; empty where there is nothing to draw.

    Args:
        record: the fault.

    >>> from memprot.faults.record import FaultThread
    >>> block = Block(0x10000, 800, (), "float64", (100,), "out")
    >>> thread = FaultThread(4242, None)
    >>> record = FaultRecord("overflow", "write", 8, 0x10320, 0, True, 11, block, None, (), thread, None)
    >>> "".join(text for _, text in sketch(record))
    '├───────────── 800 bytes ──────────────┤████████ 8 bytes'
    """
    if record.block is None or record.distance is None:
        return []
    if record.kind in ("overflow", "slack") and record.distance >= 0:
        return [("green", _ruler(record.block)), *_gap(record.distance), *_bar(record)]
    if record.kind == "underflow" and record.distance < 0:
        # Where the access starts tells the gap only when its length is known.
        between = -record.distance - (record.size or 0)
        return [*reversed(_bar(record)), *_gap(max(between, 0)), ("green", _ruler(record.block))]
    return []


def _ruler(block: Block) -> str:
    size = f" {count_of(block.nbytes, 'byte')} "
    return f"├{size.center(_BLOCK - 2, '─')}┤"


def _gap(distance: int) -> list[Span]:
    return [("dim", f"·· {count_of(distance, 'byte')} ··")] if distance else []


def _bar(record: FaultRecord) -> list[Span]:
    length = _ACCESS if record.size is None else min(record.size, _ACCESS)
    what = record.access if record.size is None else count_of(record.size, "byte")
    space = " " if record.kind != "underflow" else ""
    after = "" if record.kind != "underflow" else " "
    return [("bold red", "█" * length), ("red", f"{space}{what}{after}")]
