"""One fault as a page for people."""

import linecache
import os
from collections.abc import Iterable, Mapping

from memprot.faults.document import signal_name
from memprot.faults.headline import count_of, display_path, display_place, headline, name_of_block
from memprot.faults.ink import Ink, Span
from memprot.faults.mapped_file import explain_file
from memprot.faults.origin import program_frame
from memprot.faults.record import Block, FaultRecord, NativeFrame, PythonFrame, Where
from memprot.faults.sketch import sketch
from memprot.faults.value import describe_value
from memprot.printable import printable

__all__ = ["render", "wants_color"]

_CALLERS = 4
_NATIVE_FRAMES = 6
_MARGIN = 12


def render(record: FaultRecord, policy: str, ink: Ink) -> str:
    """The report of a fault, several lines that each end in a newline. What is unknown is left out.

    Args:
        record: the fault.
        policy: what happens to a fault that the program survives: ``raise``, ``log`` or ``abort``.
        ink: how lines are written.

    >>> from memprot.faults.record import FaultThread
    >>> thread = FaultThread(7, "main")
    >>> record = FaultRecord("unmapped", "read", 8, 0, None, False, 11, None, None, (), thread, None)
    >>> print(render(record, "raise", Ink()), end="")
    memprot: read of 8 bytes at 0x0, where nothing is mapped
    │
    │ thread    main (7)
    │
    ╰─ The program dies of SIGSEGV, as it would have without memprot.
    """
    sections = [
        _array(record),
        _running(record),
        _native(record),
        _place(record),
    ]
    lines = [ink.line(("bold red", f"memprot: {headline(record)}"))]
    for section in filter(None, sections):
        lines.append(ink.line(("dim", "│")))
        lines += [ink.line(("dim", "│ "), *spans) for spans in section]
    lines.append(ink.line(("dim", "│")))
    style, sentence = _outcome(record, policy)
    lines.append(ink.line(("dim", "╰─ "), (style, sentence)))
    return "\n".join(lines) + "\n"


def wants_color(terminal: bool, environment: Mapping[str, str]) -> bool:
    """Whether to write colours: NO_COLOR forbids, FORCE_COLOR demands, a terminal has them.

    Args:
        terminal: whether the text goes to one.
        environment: ``os.environ``.

    Source: https://no-color.org and https://force-color.org.

    >>> wants_color(True, {"NO_COLOR": "1"}), wants_color(False, {"FORCE_COLOR": "1"})
    (False, True)
    """
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return terminal and environment.get("TERM") != "dumb"


_Section = list[list[Span]]


def _array(record: FaultRecord) -> _Section:
    block = record.block
    if block is None:
        return []
    lines = [_labelled("array" if block.dtype is not None else "block", *_what(block))]
    own = program_frame(block.allocated) or next(iter(block.allocated), None)
    if own is not None:
        lines.append(_indented(("plain", "allocated in "), *_where(own)))
        lines += _source(own)
    lines += _allocated_natively(block) + _freed(block)
    drawing = sketch(record)
    if drawing:
        lines += [[], _indented(*drawing)]
    return lines


def _allocated_natively(block: Block) -> _Section:
    return [] if program_frame(block.allocated) is not None else _by("allocated", block.allocated_native)


def _freed(block: Block) -> _Section:
    if not block.is_freed:
        return []
    own = program_frame(block.freed) or next(iter(block.freed), None)
    thread: list[Span] = [("dim", f", by thread {block.freed_thread}")] if block.freed_thread else []
    lines = []
    if own is not None:
        lines = [_indented(("plain", "freed in "), *_where(own), *thread), *_source(own)]
    elif thread:
        lines = [_indented(("plain", "freed"), *thread)]
    return lines if program_frame(block.freed) is not None else lines + _by("freed", block.freed_native)


def _by(what: str, frames: tuple[NativeFrame, ...]) -> _Section:
    words = [f"{what} by "] + ["called from "] * (len(frames) - 1)
    return [
        _indented(("dim", word), ("plain", printable(str(frame))), ("dim", _comma(_native_source(frame))))
        for word, frame in zip(words[:_CALLERS], frames, strict=False)
    ]


def _comma(text: str) -> str:
    return f", {text}" if text else ""


def _what(block: Block) -> list[Span]:
    facts = [count_of(block.nbytes, "byte")]
    if block.dtype is not None:
        facts.append(printable(block.dtype) + ("" if block.shape is None else f" {block.shape}"))
    named: list[Span] = [] if block.name is None else [("bold", name_of_block(block)), ("plain", ", ")]
    return [*named, ("plain", ", ".join(facts)), ("dim", f", at {block.address:#x}")]


def _running(record: FaultRecord) -> _Section:
    if not record.python:
        return []
    own = program_frame(record.python) or record.python[0]
    at = record.python.index(own)
    lines = [_labelled("running", *_where(own)), *_source(own)]
    if at:
        inner = record.python[0]
        lines.append(_indented(("dim", "down to "), *_dimmed(_where(inner))))
    outer = record.python[at + 1 :]
    lines += [_indented(("dim", "called from "), *_dimmed(_where(frame))) for frame in outer[:_CALLERS]]
    return lines + _more(len(outer) - _CALLERS)


def _native(record: FaultRecord) -> _Section:
    lines: _Section = []
    for depth, frame in enumerate(record.native[:_NATIVE_FRAMES]):
        place = _comma(_native_source(frame))
        lines.append(
            _labelled("" if depth else "native", ("dim" if depth else "cyan", printable(str(frame))), ("dim", place))
        )
        if depth == 0:
            lines += _machine(record)
    return lines + _more(len(record.native) - _NATIVE_FRAMES)


def _native_source(frame: NativeFrame) -> str:
    if frame.file is None:
        return ""
    path = display_path(frame.file)
    return f"{os.path.basename(path) if os.path.isabs(path) else path}:{frame.line}"


def _machine(record: FaultRecord) -> _Section:
    """The instruction, the line it was compiled from, and what it was about to write."""
    frame = record.native[0]
    lines = []
    if frame.file is not None and frame.line is not None:
        lines += _source(PythonFrame(frame.file, frame.line, ""))
    if record.call is not None:
        lines.append(_indented(("dim", f"calls {record.call}, which had moved {record.transferred:,} bytes before")))
    if record.instruction is not None:
        lines.append(_indented(("plain", printable(record.instruction))))
    if record.value is not None:
        dtype = None if record.block is None else record.block.dtype
        lines.append(_indented(("dim", "writing "), ("plain", printable(describe_value(record.value, dtype)))))
    return lines


def _place(record: FaultRecord) -> _Section:
    thread = record.thread
    name = "without a Python name" if thread.name is None else printable(thread.name)
    lines = [_labelled("thread", ("plain", f"{name} ({thread.id})"))]
    if record.mapping is not None:
        lines.append(_labelled("address", ("plain", f"{record.address:#x}"), *_mapping(record.mapping)))
    if record.file is not None:
        path = "no file beneath" if record.file.path is None else display_path(record.file.path)
        lines += [_labelled("file", ("bold", path)), _indented(("plain", explain_file(record.file, "it")))]
    return lines


def _mapping(mapping: Where) -> list[Span]:
    path = "" if mapping.path is None else f" {display_path(mapping.path)}"
    extent = f" in {mapping.start:#x}-{mapping.stop:#x} {printable(str(mapping.prot))}{path}"
    return [("dim", extent)]


def _outcome(record: FaultRecord, policy: str) -> Span:
    if not record.recovered:
        return _end(record, policy)
    if record.kind in ("double-free", "wild-free", "slack"):
        return _found(record, policy)
    intact = {
        "write": "no byte of the program's data was changed",
        "read": "what it read means nothing, so its result does not either",
        "execute": "nothing was executed, and the caller saw 0",
    }[record.access]
    if policy == "raise" and record.python is not None:
        return "green", f"FaultError is raised in this thread; {intact}."
    return "yellow", f"The program goes on; {intact}."


def _found(record: FaultRecord, policy: str) -> Span:
    done = "what was overwritten stays so" if record.kind == "slack" else "nothing was freed"
    if policy == "raise" and record.python is not None:
        return "green", f"FaultError is raised in this thread; {done}."
    return "yellow", f"The program goes on; {done}."


def _end(record: FaultRecord, policy: str) -> Span:
    name = signal_name(record.signal)
    if name is None:
        return "yellow", "It was found without a signal; the program goes on."
    if record.kind in ("unmapped", "protection", "key", "bus", "stack-overflow"):
        return "red", f"The program dies of {name}, as it would have without memprot."
    if policy == "abort":
        return "red", f"The program dies of {name}, as --on-fault abort asks."
    if record.block is not None and record.block.allocator == "obj":
        return "red", f"The program dies of {name}: object memory is not recovered."
    return "red", f"The program dies of {name}: it cannot go on from here."


def _labelled(label: str, *spans: Span) -> list[Span]:
    return [("cyan", label.ljust(_MARGIN - 2)), *spans]


def _indented(*spans: Span) -> list[Span]:
    return _labelled("", *spans)


def _where(frame: PythonFrame) -> list[Span]:
    return [("bold", printable(frame.function)), ("plain", ", "), ("plain", display_place(frame))]


def _dimmed(spans: Iterable[Span]) -> list[Span]:
    return [("dim", text) for _, text in spans]


def _source(frame: PythonFrame) -> _Section:
    try:
        text = linecache.getline(frame.file, frame.line).strip()
    except ValueError:  # a name that no file can have, with a null character in it (until Python 3.13)
        return []
    if not text:
        return []
    number = str(frame.line).rjust(_MARGIN - 3)
    return [[("dim", f"{number} │ "), ("plain", _visible(text))]]


def _visible(text: str) -> str:
    # Not printable(): a backslash in a source line is the programmer's own.
    return "".join(c if c.isprintable() else " " if c == "\t" else printable(c) for c in text)


def _more(number: int) -> _Section:
    return [_indented(("dim", f"and {number} more"))] if number > 0 else []
