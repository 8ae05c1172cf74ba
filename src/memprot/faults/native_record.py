"""From what a signal handler wrote down to a :class:`~memprot.faults.record.FaultRecord` in plain words."""

from __future__ import annotations

import os
import signal
import sys
from itertools import dropwhile
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import memprot._native as _native
from memprot.faults.array import FoundArray, find_array
from memprot.faults.mapped_file import file_beneath
from memprot.faults.native_block import NativeBlock, NativeOrigin, allocator_name
from memprot.faults.record import Block, FaultRecord, FaultThread, NativeFrame, PythonFrame
from memprot.faults.source_line import SourceLine
from memprot.space.mapping import Mapping
from memprot.space.maps import AddressSpace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

    from memprot.faults.record import Access, FaultKind

Cause = Literal["unmapped", "protection", "guard", "key", "bus"]

ACCESSES: Final[tuple[Access, ...]] = ("read", "write", "execute")


_SIGBUS: Final = int(signal.SIGBUS)
NO_KEY: Final = -1
NO_PROT: Final = -1
# enum memprot_finding
DOUBLE_FREE: Final = 1
WILD_FREE: Final = 2
SLACK: Final = 3


class NativeRecord(NamedTuple):
    """One record, read from the row that the binding hands over.

    >>> NativeRecord(1, 4242, "python", 11, 1, 0x10000, 8, False, None, (), None, 0).thread_name
    'python'
    """

    sequence: int
    thread: int
    thread_name: str  # empty for the main thread
    signal: int
    access: int
    address: int
    size: int  # 0 when unknown
    guard: bool
    block: NativeBlock | None
    instructions: tuple[int, ...]  # the faulting one, then return addresses
    python: tuple[tuple[str, int, str], ...] | None
    folded: int
    key: int = NO_KEY  # that forbade the access
    code: int = 0  # si_code
    call: str | None = None  # the function through which the kernel made the access
    transferred: int = 0  # bytes that it said it had moved
    policy: int = 1  # that it fell under, as memprot._native.fault_policy numbers it
    source: int = 0  # of the policy: the number of a scope, 0 the process, -1 the memory
    scope: int = 0  # the number of the thread's own scope, 0 where it had none
    faults: int = 1  # for how many it stands: those that went on with the same access, and those folded in
    time: int | None = None  # nanoseconds since 1970
    instruction: bytes | None = None  # from the faulting one on
    value: bytes | None = None  # what would have been written at the operand's start
    prot: int = NO_PROT  # of the page when it faulted
    finding: int = 0  # what was found without a signal, an enum memprot_finding


def from_row(row: tuple[Any, ...]) -> NativeRecord:
    """Read a row, whose stacks are the bytes that the handler wrote.

    >>> row = (1, 4242, "python", 11, 1, 0x10000, 8, False, None, bytes(8), None, 0, 5, 2, 1)
    >>> from_row(row).instructions, from_row(row).key
    ((0,), 5)
    """
    instructions, stack = row[9:11]
    counters = tuple(memoryview(instructions).cast("P"))
    frames = None if stack is None else tuple(_frames_of(stack))
    block = None if row[8] is None else _block_of_row(*row[8])
    fields: tuple[Any, ...] = (*row[:8], block, counters, frames, *row[11:])
    return NativeRecord(*fields)


def _block_of_row(
    address: int, size: int, allocated: tuple[int, ...], freed: tuple[int, ...], is_freed: bool, owner: int
) -> NativeBlock:
    return NativeBlock(address, size, NativeOrigin(*allocated), NativeOrigin(*freed), is_freed, owner)


def _frames_of(stack: bytes) -> Iterator[tuple[str, int, str]]:
    at = 0
    while at < len(stack):
        line = int.from_bytes(stack[at : at + 4], sys.byteorder, signed=True)
        file_end = stack.index(0, at + 4)
        function_end = stack.index(0, file_end + 1)
        yield _text(stack[at + 4 : file_end]), line, _text(stack[file_end + 1 : function_end])
        at = function_end + 1


def _text(encoded: bytes) -> str:
    return encoded.decode("utf-8", "surrogatepass")


def cause_of(signal_number: int, guard: bool, key: int = NO_KEY) -> Cause:
    """What forbade the access.

    >>> cause_of(signal.SIGSEGV, True)
    'guard'
    """
    if signal_number == _SIGBUS:
        return "bus"
    if key != NO_KEY:
        return "key"
    return "guard" if guard else "protection"


def block_of(native: NativeRecord) -> NativeBlock | None:
    """The guarded block the access belongs to: an array in a pool, or a guarded Region.

    >>> block_of(NativeRecord(1, 4242, "python", 11, 1, 0x10000, 8, False, None, (), None, 0)) is None
    True
    """
    if native.block or native.finding or not native.guard:
        return native.block
    region = _native.region_at(native.address)
    return NativeBlock(region.address, region.size, NativeOrigin(region.stack)) if region else None


def place_beside(address: int, start: int, size: int) -> tuple[FaultKind, int]:
    """Which side of a block an address lies on, and how far from that end.

    >>> place_beside(0x1008, 0x1000, 8), place_beside(0xFFF, 0x1000, 8)
    (('overflow', 0), ('underflow', -1))
    """
    stop = start + size
    return ("overflow", address - stop) if address >= stop else ("underflow", address - start)


def kind_of(finding: int, guard: bool, block: NativeBlock | None, address: int) -> tuple[FaultKind | None, int | None]:
    """What an access to memory of the guards comes to, and how far it is from the block's end or start.

    Args:
        finding: what was found without a signal, an enum memprot_finding.
        guard: whether it was a guard that was touched, or freed memory.
        block: the nearest.
        address: of the access.

    >>> kind_of(0, True, NativeBlock(0x1000, 8), 0x1008)
    ('overflow', 0)
    >>> kind_of(0, True, NativeBlock(0x1000, 8, is_freed=True), 0x1004)
    ('use-after-free', 4)
    """
    if finding == DOUBLE_FREE:
        return "double-free", None
    if finding == WILD_FREE:
        return "wild-free", None if block is None else address - block.address
    if block is None or not guard:
        return None, None
    if finding == SLACK:
        return "slack", address - block.address - block.size
    if block.is_freed:
        return "use-after-free", address - block.address
    return place_beside(address, block.address, block.size)


def as_record(native: NativeRecord) -> FaultRecord:
    """Complete a record with what can be found out now: names, symbols, the mapping.

    >>> as_record(NativeRecord(1, 4242, "python", 11, 1, 0x10000, 8, False, None, (), None, 0)).kind
    'protection'
    """
    block = block_of(native)
    kind: FaultKind = "protection"
    if native.signal == _SIGBUS:
        kind = "bus"
    elif native.guard:
        kind = "unmapped"
    elif native.key != NO_KEY:
        kind = "key"
    beside, distance = kind_of(native.finding, native.guard, block, native.address)
    # A variable that still holds freed memory is as telling as one that holds a block.
    array = None if block is None else find_array(block.address, block.size, _running_frames())
    mapping = mapping_at(native.address, native.prot)
    return FaultRecord(
        kind=beside or kind,
        access=ACCESSES[native.access],
        size=native.size or None,
        address=native.address,
        distance=distance,
        recovered=True,
        signal=native.signal,
        block=None if block is None else _named_block(block, array),
        python=python_frames(native.python) if native.python is not None else None,
        native=native_frames(native.instructions),
        thread=FaultThread(native.thread, _thread_name(native)),
        mapping=mapping,
        key=None if native.key == NO_KEY else native.key,
        file=file_beneath(mapping, native.address, native.code) if kind == "bus" else None,
        time=native.time,
        code=native.instruction,
        value=native.value,
        call=native.call,
        transferred=None if native.call is None else native.transferred,
        element=array.element_at(native.address) if array is not None and distance is not None else None,
    )


def python_frames(rows: tuple[tuple[str, int, str], ...]) -> tuple[PythonFrame, ...]:
    """Rows of file, line and function as frames.

    >>> python_frames((("app.py", 12, "main"),))[0].line
    12
    """
    return tuple(PythonFrame(*row) for row in rows)


def native_frames(instructions: tuple[int, ...]) -> tuple[NativeFrame, ...]:
    """Name the functions; a return address lies behind its call, which may be the function's last instruction.

    >>> import ctypes
    >>> native_frames((ctypes.cast(ctypes.CDLL(None).qsort, ctypes.c_void_p).value,))[0].function
    'qsort'
    """
    frames = []
    for depth, address in enumerate(instructions):
        function, library, offset, position = _native.symbol(address - (depth > 0))
        if offset is not None:
            offset += depth > 0
        source = None if library is None or position is None else SourceLine(library, position)
        frames.append(NativeFrame(address, function, library, offset, source))
    return tuple(frames)


def _named_block(block: NativeBlock, array: FoundArray | None) -> Block:
    return Block(
        block.address,
        block.size,
        _stack_of(block.allocated),
        None if array is None else array.dtype,
        None if array is None else array.shape,
        None if array is None else array.name,
        freed=_stack_of(block.freed),
        allocated_native=_native_stack_of(block.allocated),
        freed_native=_native_stack_of(block.freed),
        is_freed=block.is_freed,
        freed_thread=block.freed.thread or None,
        allocator=allocator_name(block.owner),
    )


def _stack_of(origin: NativeOrigin) -> tuple[PythonFrame, ...]:
    return tuple(_outside_memprot(python_frames(_native.stack_frames(origin.python))))


def _native_stack_of(origin: NativeOrigin) -> tuple[NativeFrame, ...]:
    # The first is a return address, too: what stands in its place here is dropped again.
    return native_frames((0, *_native.native_stack(origin.native)))[1:] if origin.native else ()


def mapping_at(address: int, prot: int = NO_PROT) -> Mapping | None:
    """The mapping that holds an address, with the protection that it had; None where there is none, or nobody can tell.

    Parameters:
        address: any.
        prot: what its page was protected with; as it is now when that is not given.

    >>> mapping_at(0) is None
    True
    """
    try:
        now = AddressSpace().find(address)
    except OSError:  # no descriptor is left, or /proc is not mounted: unknown, and the fault is told all the same
        return None
    if now is None or prot in (NO_PROT, now.prot):
        return now
    return Mapping(
        now.start, now.stop, prot, now.shared, now.offset, now.device, now.inode, now.path, now.deleted, now.kind
    )


_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep


def _outside_memprot(frames: Iterable[PythonFrame]) -> Iterator[PythonFrame]:
    """Who asked for a block is the first frame that is not memprot's own."""
    return dropwhile(lambda frame: frame.file.startswith(_PACKAGE), frames)


def _running_frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def with_thread_name(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row whose thread has the name that Python knows it by, if it does, instead of the kernel's.

    It must be asked while the thread runs. The row of the main thread stays as it is: that one does not end.

    >>> import threading
    >>> row = (1, threading.get_native_id(), "python", 11)
    >>> with_thread_name(row)[2:]
    ('MainThread', 11)
    """
    if not row[2]:
        return row
    name = _python_thread_name(row[1])
    return row if name is None else (*row[:2], name, *row[3:])


def _python_thread_name(thread: int) -> str | None:
    threading = sys.modules.get("threading")
    known = () if threading is None else threading.enumerate()
    return next((str(one.name) for one in known if one.native_id == thread), None)


def _thread_name(native: NativeRecord) -> str | None:
    if native.thread_name:
        return native.thread_name
    found = _python_thread_name(native.thread)
    return "MainThread" if found is None and native.thread == os.getpid() else found
