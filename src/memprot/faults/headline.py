"""One fault in one sentence."""

import os

from memprot.faults.origin import path_in_library, program_frame
from memprot.faults.record import Block, FaultRecord, PythonFrame
from memprot.printable import printable

__all__ = ["count_of", "display_path", "display_place", "headline", "name_of_block"]

_LONGEST_NAME = 60


def headline(record: FaultRecord) -> str:
    """What happened, without what is unknown.

    Args:
        record: the fault.

    >>> from memprot.faults.record import FaultThread
    >>> block = Block(0x10000, 800, (), "float64", (100,), "out")
    >>> thread = FaultThread(4242, None)
    >>> headline(FaultRecord("overflow", "write", 8, 0x10320, 0, True, 11, block, None, (), thread, None))
    'write of 8 bytes, 0 bytes past the end of `out`'
    """
    block = "a block" if record.block is None else name_of_block(record.block)
    away = "" if record.distance is None else f"{count_of(abs(record.distance), 'byte')} "
    element = "" if record.element is None else f": {record.element}"
    match record.kind:
        case "overflow":
            return f"{_access(record)}, {away}past the end of {block}{element}"
        case "underflow":
            return f"{_access(record)}, {away}before the start of {block}{element}"
        case "use-after-free":
            return f"{_access(record)}, {f'{away}into' if away else 'inside'} {block}, which was freed{element}"
        case "double-free":
            return f"{block} was freed a second time"
        case "wild-free":
            where = "where no block starts" if record.distance is None else f"{away}{_into(record)} {block}"
            return f"free of {record.address:#x}, {where}"
        case "slack":
            count = (
                "bytes were"
                if record.size is None
                else count_of(record.size, "byte") + (" was" if record.size == 1 else " were")
            )
            return f"{count} overwritten, {away}past the end of {block}{element}"
        case "unmapped":
            return f"{_access(record)} at {record.address:#x}, where nothing is mapped"
        case "protection":
            return f"{_access(record)} at {record.address:#x}, {_protection(record)}"
        case "key":
            return f"{_access(record)} at {record.address:#x}, which protection key {record.key} forbids to the thread"
        case "stack-overflow":
            name = record.thread.name
            thread = f"thread {record.thread.id}" if name is None else f"thread {_short(name)}"
            return f"stack overflow in {thread}" + (f" at Python depth {record.depth:,}" if record.depth else "")
        case "bus":
            return f"{_access(record)} at {record.address:#x}, which the mapping cannot give"


def name_of_block(block: Block) -> str:
    """The variable that holds it, or what it is.

    Args:
        block: of the fault.

    >>> name_of_block(Block(0x10000, 800, (), "float64", (100,), None))
    'a float64 array of shape (100,)'
    """
    if block.name is not None:
        return f"`{_short(block.name)}`"
    if block.dtype is not None and block.shape is not None:
        return f"a {_short(block.dtype)} array of shape {block.shape}"
    own = program_frame(block.allocated) or next(iter(block.allocated), None)
    size = f"a block of {count_of(block.nbytes, 'byte')}"
    return size if own is None else f"{size} from {display_place(own)}"


def count_of(number: int, what: str) -> str:
    """``1 byte``, ``8 bytes``.

    Args:
        number: how many.
        what: in the singular.

    >>> count_of(1, "byte"), count_of(1234, "byte")
    ('1 byte', '1,234 bytes')
    """
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def display_place(frame: PythonFrame) -> str:
    """``app.py:12`` for a frame; of a library's file the path as it is imported.

    Args:
        frame: its file may lie anywhere and be named anyhow.

    >>> import threading
    >>> display_place(PythonFrame("<string>", 1, "<module>")), display_place(PythonFrame(threading.__file__, 7, "f"))
    ('<string>:1', 'threading.py:7')
    """
    inside = path_in_library(frame.file)
    if inside is not None:
        return f"{printable(inside)}:{frame.line}"
    return f"{display_path(frame.file)}:{frame.line}"


def display_path(path: str) -> str:
    """A path as it is best read: relative to the working directory when it lies below, and escaped.

    Args:
        path: of a file, absolute or not.

    >>> display_path("/nowhere/app.py")
    '/nowhere/app.py'
    """
    if os.path.isabs(path):
        try:
            below = os.path.join(os.getcwd(), "")
        except FileNotFoundError:  # the working directory was removed
            below = path
        path = path.removeprefix(below) or path
    return printable(path)


def _access(record: FaultRecord) -> str:
    verb = "execution" if record.access == "execute" else record.access
    return verb if record.size is None else f"{verb} of {count_of(record.size, 'byte')}"


def _into(record: FaultRecord) -> str:
    return "into" if record.distance is None or record.distance >= 0 else "before the start of"


def _protection(record: FaultRecord) -> str:
    if record.mapping is None:
        return "which its protection forbids"
    return f"where the protection is {printable(str(record.mapping.prot))}"


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= _LONGEST_NAME else shown[: _LONGEST_NAME - 1] + "…"
