"""The reporter: a fresh process that tells how another one, stopped in its last signal handler, came to die."""

from __future__ import annotations

import json
import os
import sys
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

import memprot._native as _native
from memprot.faults.document import fault_document
from memprot.faults.ink import Ink
from memprot.faults.mapped_file import file_beneath
from memprot.faults.native_block import ALLOCATORS, NativeBlock, allocator_name
from memprot.faults.native_record import ACCESSES, kind_of, python_frames
from memprot.faults.record import Block, FaultRecord, FaultThread, NativeFrame
from memprot.faults.report import render, wants_color
from memprot.faults.source_line import SourceLine
from memprot.guard.counts import counts_as_told
from memprot.printable import printable
from memprot.run import stderr
from memprot.run.json_text import json_text
from memprot.space.layout import Layout
from memprot.space.maps import AddressSpace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memprot.faults.ink import Span
    from memprot.faults.record import FaultKind

__all__ = ["Evidence", "appendix", "layout_of", "main", "record_of", "set_guarded"]

_SIGBUS = 7
_SI_KERNEL = 0x80  # a general protection fault
_SEGV_MAPERR = 1  # sigaction(2)
_REGISTERS_A_LINE = 4
_OWN_LIBRARIES = ("libmemprot.so", "libmemprot_malloc.so")

Evidence = dict[str, Any]


def main(policy: str, document: str) -> None:
    """Read what the parent process knows from standard input, and tell it.

    Args:
        policy: as in :func:`memprot.run.reporter.command`.
        document: as in :func:`memprot.run.reporter.command`; empty for none.

    Raises:
        OSError: the document cannot be written.

    >>> callable(main)
    True
    """
    evidence: Evidence = json.loads(sys.stdin.buffer.read().decode("utf-8", "surrogatepass"))
    layout = layout_of(os.getppid())
    record = record_of(evidence, layout)
    ink = Ink(color=wants_color(stderr.is_terminal(), os.environ), unicode=stderr.can_show("│╰─├┤█…·"))
    stderr.say(render(record, policy, ink) + "".join(f"{ink.line(*line)}\n" for line in appendix(evidence, layout)))
    if document:
        _complete(document, record, evidence["guarded"])


def layout_of(pid: int) -> Layout:
    """The mappings of a process; none where they cannot be read.

    Args:
        pid: of the process.

    >>> len(layout_of(os.getpid())) > 0
    True
    """
    try:
        return AddressSpace(pid).snapshot()
    except OSError:  # /proc is not mounted, or may not be read: what can be told without it is told
        return Layout(())


def record_of(evidence: Evidence, layout: Layout) -> FaultRecord:
    """The fault that the parent process wrote down.

    Args:
        evidence: as libmemprot/evidence.c writes it.
        layout: the mappings of that process.

    >>> callable(record_of)
    True
    """
    address = evidence["address"]
    mapping = layout.find(address)
    unmapped = mapping is None if layout else evidence["code"] == _SEGV_MAPERR
    kind: FaultKind = "unmapped" if unmapped or evidence["guard"] else "protection"
    block, place = None, None
    if "block" in evidence:
        start, size, is_freed, owner, freed_thread = evidence["block"]
        place = NativeBlock(start, size, is_freed=is_freed, owner=owner)
        allocated, freed = evidence["allocated"], evidence["freed"]
        block = Block(
            start,
            size,
            _frames(allocated[0]),
            None,
            None,
            None,
            freed=_frames(freed[0]),
            is_freed=is_freed,
            freed_thread=freed_thread or None,
            allocator=allocator_name(owner),
            allocated_native=tuple(_native_frames(allocated[1], layout, behind_calls=True)),
            freed_native=tuple(_native_frames(freed[1], layout, behind_calls=True)),
        )
    elif "depth" in evidence:
        kind = "stack-overflow"
    elif evidence["signal"] == _SIGBUS:
        kind = "bus"
    elif evidence["key"] is not None:
        kind = "key"
    guard = evidence["guard"] or place is not None
    beside, distance = kind_of(evidence["finding"], guard, place, address)
    kind = beside or kind
    return FaultRecord(
        kind=kind,
        access=ACCESSES[evidence["access"]],
        size=evidence["size"] or None,
        address=address,
        distance=distance,
        recovered=False,
        signal=evidence["signal"],
        block=block,
        python=None if evidence["python"] is None else _frames(evidence["python"]),
        native=tuple(_behind_memprot(_native_frames(evidence["instructions"], layout))),
        thread=FaultThread(evidence["thread"], _thread_name(evidence)),
        mapping=mapping,
        key=evidence["key"],
        file=file_beneath(mapping, address, evidence["code"], os.getppid()) if kind == "bus" else None,
        call=evidence["call"][0] if "call" in evidence else None,
        transferred=evidence["call"][1] if "call" in evidence else None,
        depth=evidence.get("depth"),
        time=evidence["time"],
        code=bytes.fromhex(evidence["machine_code"]) or None,
        value=bytes.fromhex(evidence["value"]) or None,
    )


def _frames(rows: list[list[Any]]) -> tuple[Any, ...]:
    return python_frames(tuple((file, line, function) for file, line, function in rows))


def _thread_name(evidence: Evidence) -> str | None:
    return "MainThread" if evidence["thread"] == os.getppid() else evidence["name"] or None


def _behind_memprot(frames: Iterator[NativeFrame]) -> Iterator[NativeFrame]:
    """Without memprot's own functions, in which an error is found that raises no signal."""
    return dropwhile(lambda frame: os.path.basename(frame.library or "") in _OWN_LIBRARIES, frames)


def _native_frames(instructions: list[int], layout: Layout, *, behind_calls: bool = False) -> Iterator[NativeFrame]:
    for depth, address in enumerate(instructions):
        mapping = layout.find(address)
        function, library, offset, source = None, None, None, None
        if mapping is not None and mapping.path is not None and not mapping.path.startswith("["):
            behind_call = behind_calls or depth > 0
            try:
                function, library, offset, position = _native.symbol_at_file_offset(
                    mapping.path, address - behind_call - mapping.start + mapping.offset
                )
                offset += behind_call
                source = None if position is None else SourceLine(library, position)
            except OSError:
                library, offset = mapping.path, None  # deleted or replaced since: its symbols are gone
        yield NativeFrame(address, function, library, offset, source)


def appendix(evidence: Evidence, layout: Layout) -> Iterator[list[Span]]:
    """What only a death is worth telling: the neighbourhood, the registers, every thread.

    Args:
        evidence: as in :func:`record_of`.
        layout: as in :func:`record_of`.

    >>> callable(appendix)
    True
    """
    if layout:
        yield [("cyan", "mappings around the address")]
        yield from _neighbourhood(evidence["address"], layout)
    else:
        yield [("cyan", "the mappings cannot be read: is /proc mounted?")]
    if evidence["code"] == _SI_KERNEL and layout.find(evidence["address"]) is not None:
        yield [
            ("yellow", "the mapping is there: the instruction wants an aligned address, which --align 16 gives arrays")
        ]
    registers = [f"{name:>6} {value & (1 << 64) - 1:016x}" for name, value in evidence["registers"].items()]
    if registers:  # there are none without a signal
        yield [("cyan", "registers")]
    for start in range(0, len(registers), _REGISTERS_A_LINE):
        yield [("plain", " ".join(registers[start : start + _REGISTERS_A_LINE]))]
    for thread in evidence["threads"]:
        faulted = " (it faulted)" if thread["id"] == evidence["thread"] else ""
        yield [("cyan", f"Python thread {thread['id']}{faulted}, most recent call first")]
        for frame in _frames(thread["python"]):
            yield [("plain", f'  File "{printable(frame.file)}", line {frame.line} in {printable(frame.function)}')]


def _neighbourhood(address: int, layout: Layout) -> Iterator[list[Span]]:
    below = [mapping for mapping in layout if mapping.stop <= address][-2:]
    around = [mapping for mapping in layout if mapping.start <= address < mapping.stop]
    above = [mapping for mapping in layout if mapping.start > address][:2]
    for mapping in (*below, *around, *above):
        style, mark = ("bold", ">") if mapping in around else ("plain", " ")
        path = "" if mapping.path is None else f" {printable(mapping.path)}"
        yield [(style, f"{mark} {mapping.start:#x}-{mapping.stop:#x} {mapping.prot}{path}")]
        if not around and below and mapping is below[-1]:
            yield [("bold", f"> {address:#x} lies between")]
    if not around and not below:
        yield [("bold", f"> {address:#x} lies below all of them")]


def _complete(path: str, record: FaultRecord, guarded: list[list[int]]) -> None:
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    document["faults"].append(fault_document(record))
    document["exit"] = -record.signal
    set_guarded(document, guarded)
    _native.write_document(os.fsencode(path), (json_text(document) + "\n").encode())


def set_guarded(document: dict[str, Any], guarded: list[list[int]]) -> None:
    """Put into a document what was guarded.

    Args:
        document: whose allocators stay, and those that guarded anything are added.
        guarded: the numbers of each allocator, as libmemprot/evidence.c writes them.

    >>> document = {"guarded": {}}
    >>> set_guarded(document, [[1] * 10] + [[0] * 10] * 4)
    >>> document["guarded"]["numpy"]["arrays"]
    1
    """
    for target, counts in zip(ALLOCATORS, guarded, strict=True):
        if target in document["guarded"] or any(counts):
            document["guarded"][target] = counts_as_told(target, counts)
