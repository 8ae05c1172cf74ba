"""An OSError that says "Bad address" without a fault having been recorded: which buffer of the call was it?

Calls that pass by memprot (through ctypes, inside the C library) leave nothing but the error. The traceback's last
instruction tells which call it was, and what its arguments were made of.
"""

from __future__ import annotations

import dis
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import memprot._native as _native
from memprot.faults.error import FaultError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

    from memprot.faults.record import Access

__all__ = ["Call", "call_of", "fault_behind"]

_READ_BY_THE_KERNEL: Final = ("write", "send", "tofile", "put", "dump", "save")
_NAMES: Final = ("LOAD_FAST", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_CLOSURE")
_ATTRIBUTES: Final = ("LOAD_ATTR", "LOAD_METHOD")


class Call(NamedTuple):
    """A call that has failed.

    Attributes:
        name: of the function, as it was called.
        operands: the objects that the arguments were made of, as far as they can be told.
        raised: Python code has raised the error by itself: the call was one before, and the name is that of the code.

    >>> Call("readv", (3, b"x")).name
    'readv'
    """

    name: str
    operands: tuple[Any, ...]
    raised: bool = False


def call_of(frame: FrameType, position: int) -> Call:
    """Read from its instructions what a frame was calling.

    Args:
        frame: the frame.
        position: the offset of its instruction, a traceback's ``tb_lasti``.

    >>> import sys
    >>> try:
    ...     int("x")
    ... except ValueError as error:
    ...     call_of(error.__traceback__.tb_frame, error.__traceback__.tb_lasti).name
    'int'
    """
    instructions = list(dis.get_instructions(frame.f_code))
    at = next((i for i, instruction in enumerate(instructions) if instruction.offset == position), None)
    call = None if at is None or not instructions[at].opname.startswith("CALL") else instructions[at].positions
    if call is None:
        return Call(frame.f_code.co_name, tuple(frame.f_locals.values()), raised=True)
    inside = [one for one in instructions[:at] if one.positions is not None and _covers(call, one.positions)]
    heads = [one for one in inside if one.positions is not None and _start(one.positions) == _start(call)]
    named = [one for one in heads if one.opname in _ATTRIBUTES] or [one for one in heads if _loads(one)]
    name = str(named[-1].argval) if named else frame.f_code.co_name
    return Call(name, tuple(_values(inside, frame)))


def _start(positions: dis.Positions) -> tuple[int, int]:
    return positions.lineno or 0, positions.col_offset or 0


def _stop(positions: dis.Positions) -> tuple[int, int]:
    return positions.end_lineno or 0, positions.end_col_offset or 0


def _covers(outer: dis.Positions, inner: dis.Positions) -> bool:
    return _start(outer) <= _start(inner) and _stop(inner) <= _stop(outer)


def _loads(instruction: dis.Instruction) -> bool:
    return instruction.opname.startswith(_NAMES)


def _values(instructions: Iterable[dis.Instruction], frame: FrameType) -> Iterator[Any]:
    """What names and attributes stand for; nothing is called to find out."""
    last: Any = None
    for instruction in instructions:
        if _loads(instruction):
            names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
            for name in names:  # one instruction may load two of them
                last = frame.f_locals.get(name, frame.f_globals.get(name))
                yield last
        elif instruction.opname in _ATTRIBUTES:
            last = getattr(last, "__dict__", {}).get(instruction.argval)
            yield last


def fault_behind(error: OSError, known: tuple[BaseException, ...]) -> FaultError | None:
    """The fault that a "Bad address" stands for; None where no argument of the call is memory that memprot protects.

    Args:
        error: with its traceback.
        known: faults that have been raised already: one of them may have come with this error.

    >>> fault_behind(OSError(14, "Bad address"), ()) is None
    True
    """
    if any(fault.__context__ is error for fault in known):
        return None
    for frame, position in reversed([*_frames(error)]):
        call = call_of(frame, position)
        fault = _fault_of(call)
        if fault is not None or not call.raised:
            return fault
    return None


def _frames(error: OSError) -> Iterator[tuple[FrameType, int]]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lasti
        traceback = traceback.tb_next


def _fault_of(call: Call) -> FaultError | None:
    access: Access = "read" if any(word in call.name for word in _READ_BY_THE_KERNEL) else "write"
    for operand in call.operands:
        for part in operand if isinstance(operand, (list, tuple)) else (operand,):
            address = _forbidden_in(part, access)
            if address is not None:
                fault = FaultError._from_copy(address, access, 0)
                fault.call = call.name
                return fault
    return None


def _forbidden_in(operand: object, access: Access) -> int | None:
    try:
        address, size, _ = _native.buffer_range(operand)
    except (TypeError, ValueError, BufferError):  # no memory of its own
        return None
    return _native.find_forbidden(address, address + size, access == "write")


_native.set_kernel_fault(fault_behind)
