"""A fault as data: the form in which other programs read it."""

import signal
import time
from typing import TypeAlias

from memprot.faults.mapped_file import MappedFile
from memprot.faults.origin import program_frame
from memprot.faults.record import Block, Element, FaultRecord, NativeFrame, PythonFrame, Where

__all__ = ["Json", "fault_document", "signal_name"]

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"


def fault_document(record: FaultRecord, count: int = 1) -> dict[str, Json]:
    """A fault as a JSON object. What is unknown is null, never left out; addresses are hexadecimal strings.

    Args:
        record: the fault.
        count: how many like it there were.

    >>> from memprot.faults.record import FaultThread
    >>> thread = FaultThread(4242, None)
    >>> record = FaultRecord("bus", "read", 8, 4096, None, False, 7, None, None, (), thread, None)
    >>> document = fault_document(record)
    >>> document["signal"], document["address"], document["object"]
    ('SIGBUS', '0x1000', None)
    """
    return {
        "kind": record.kind,
        "access": record.access,
        "key": record.key,
        "size": record.size,
        "address": hex(record.address),
        "distance": record.distance,
        "element": None if record.element is None else _element(record.element),
        "count": count,
        "recovered": record.recovered,
        "signal": signal_name(record.signal),
        "object": None if record.block is None else _block(record.block),
        "python": None if record.python is None else [_python_frame(frame) for frame in record.python],
        "native": [_native_frame(frame) for frame in record.native],
        "thread": {"id": record.thread.id, "name": record.thread.name},
        "mapping": None if record.mapping is None else _mapping(record.mapping),
        "instruction": record.instruction,
        "value": None if record.value is None else record.value.hex(),
        "time": None if record.time is None else _time(record.time),
        "file": None if record.file is None else _file(record.file),
        "depth": record.depth,
        "call": None if record.call is None else {"function": record.call, "transferred": record.transferred},
    }


def signal_name(number: int) -> str | None:
    """``SIGSEGV`` for its number; None for a number that is no signal's.

    Args:
        number: as in signal(7); 0 for what was found without a signal.

    >>> signal_name(11), signal_name(0)
    ('SIGSEGV', None)
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return None


def _block(block: Block) -> Json:
    return {
        "nbytes": block.nbytes,
        "dtype": block.dtype,
        "shape": None if block.shape is None else list(block.shape),
        "name": block.name,
        "allocator": block.allocator,
        "allocated": _lines(block.allocated, block.allocated_native),
        "freed": _freed(block) if block.is_freed else None,
    }


def _element(element: Element) -> Json:
    return {"index": element.number, "length": element.length, "axis": element.axis}


def _freed(block: Block) -> Json:
    lines = _lines(block.freed, block.freed_native)
    if not isinstance(lines, dict):
        lines = {"file": None, "line": None, "function": None, "stack": [], "native": []}
    return {**lines, "thread": block.freed_thread}


def _lines(frames: tuple[PythonFrame, ...], native: tuple[NativeFrame, ...]) -> Json:
    if not frames and not native:
        return None
    own = program_frame(frames)
    return {
        "file": None if own is None else own.file,
        "line": None if own is None else own.line,
        "function": None if own is None else own.function,
        "stack": [_python_frame(frame) for frame in frames],
        "native": [_native_frame(frame) for frame in native],
    }


def _python_frame(frame: PythonFrame) -> Json:
    return {"file": frame.file, "line": frame.line, "function": frame.function}


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09}Z"


def _native_frame(frame: NativeFrame) -> Json:
    return {
        "function": frame.function,
        "library": frame.library,
        "offset": frame.offset,
        "file": frame.file,
        "line": frame.line,
    }


def _file(file: MappedFile) -> Json:
    return {"path": file.path, "size": file.size, "position": file.position, "stop": file.stop, "loss": file.loss}


def _mapping(mapping: Where) -> Json:
    return {
        "start": hex(mapping.start),
        "stop": hex(mapping.stop),
        "prot": str(mapping.prot),
        "path": mapping.path,
    }
