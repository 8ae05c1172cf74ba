"""The block of a suppressions file that matches one fault."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from memprot.faults.origin import program_frame
from memprot.run import stderr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memprot.faults.record import FaultRecord, NativeFrame, PythonFrame

__all__ = ["hand_out", "suppression_block"]

_NATIVE_FRAMES = 3
_PACKAGES = "/site-packages/"


def suppression_block(record: FaultRecord) -> str:
    """The lines that suppress a fault and those like it, as :mod:`memprot.run.suppressions` reads them.

    Args:
        record: a fault that the program has survived.

    >>> from memprot.faults.record import FaultRecord, FaultThread, PythonFrame
    >>> frames = (PythonFrame("/home/me/app.py", 12, "main"),)
    >>> thread = FaultThread(7, "main")
    >>> record = FaultRecord("overflow", "write", 8, 4096, 0, True, 11, None, frames, (), thread, None)
    >>> print(suppression_block(record), end="")
    suppression: overflow of main in app.py
        kind: overflow
        access: write
        ...
        function: main  file: /home/me/app.py
    """
    frames: list[str] = []
    for line in (*_native_lines(record), *_python_lines(record)):
        if line != "..." or frames[-1:] != ["..."]:
            frames.append(line)
    lines = [f"kind: {record.kind}", f"access: {record.access}", *frames]
    return "\n    ".join([f"suppression: {_name(record)}", *lines]) + "\n"


def _name(record: FaultRecord) -> str:
    own = program_frame(record.python) if record.python else None
    frame = own or (record.python[0] if record.python else None)
    if frame is not None:
        return _literal(f"{record.kind} of {frame.function} in {os.path.basename(frame.file)}", keep=" ")
    native = next((frame.function for frame in record.native if frame.function), None)
    return f"{record.kind} of {_literal(native or 'an unknown function')}"


def _native_lines(record: FaultRecord) -> Iterator[str]:
    at = next((at for at, frame in enumerate(record.native) if not _is_ours(frame)), 0)
    if at:
        yield "..."
    for frame in record.native[at : at + _NATIVE_FRAMES]:
        yield _native_line(frame)
    yield "..."


def _is_ours(frame: NativeFrame) -> bool:
    """Whether it is memprot's own code that has found something at a free: its functions may change their names."""
    return frame.library is not None and os.path.basename(frame.library).startswith("libmemprot")


def _native_line(frame: NativeFrame) -> str:
    # A library whose file is not the one that was loaded any more has no names in a handler.
    if frame.library is None or frame.source is None:
        return "..."
    library = f"library: {_literal(os.path.basename(frame.library))}"
    return library if frame.function is None else f"{library}  function: {_literal(frame.function)}"


def _python_lines(record: FaultRecord) -> Iterator[str]:
    frames = record.python or ()
    own = program_frame(frames)
    for at, frame in enumerate(frames):
        if at == 0 or frame is own:
            yield _python_line(frame)
        elif own is not None and at < frames.index(own):
            yield "..."


def _python_line(frame: PythonFrame) -> str:
    file = frame.file
    if _PACKAGES in file:
        file = f"*{_PACKAGES}{file.rpartition(_PACKAGES)[2]}"
    return f"function: {_literal(frame.function)}  file: {_literal(file)}"


def _literal(text: str, keep: str = "") -> str:
    """A pattern of one word that matches the text: what a file cannot hold, or would read otherwise, becomes ``?``."""
    return "".join(c if c in keep or (c.isprintable() and not c.isspace()) else "?" for c in text) or "*"


def hand_out(block: str, path: str) -> None:
    """Print a block on standard error, or add it to a file that does not have it yet.

    Where it cannot be added, standard error says why and has the block.

    Args:
        block: as :func:`suppression_block` makes it.
        path: of the file; ``-`` for standard error.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "known.supp")
    ...     hand_out("suppression: one\\n", str(path))
    ...     hand_out("suppression: one\\n", str(path))
    ...     path.read_text()
    'suppression: one\\n'
    """
    if path == "-":
        stderr.say(block)
        return
    try:
        with open(path, "a+", encoding="utf-8") as file:
            file.seek(0)
            if block not in file.read():
                file.write(block)
    except (OSError, UnicodeDecodeError) as error:
        stderr.say(f"memprot: this suppression cannot be added to {path!r} ({error}):\n{block}")
