"""What a program without Python leaves behind, told by a fresh process: its faults, and at its end the document."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import memprot._native as _native
from memprot.faults.document import fault_document
from memprot.faults.ink import Ink
from memprot.faults.native_block import ALLOCATORS
from memprot.faults.report import render, wants_color
from memprot.printable import printable
from memprot.run import crash, stderr
from memprot.run.json_text import json_text
from memprot.run.suppression_block import hand_out, suppression_block
from memprot.run.suppressions import read

__all__ = ["main"]


def main(policy: str, document: str, first: str, generated: str = "", *suppressions: str) -> None:
    """Read from standard input what the parent process knows, of one fault or of its end, and tell it.

    Args:
        policy: what happens to a fault: ``raise`` or ``abort`` for death, or ``log``.
        document: the path of the first process's document; empty for none. That of another process has its number
            behind a dot, and is made when there is a fault to put into it.
        first: the number of the process that was launched.
        generated: where what would suppress a fault is written: ``-`` for standard error, or a file; empty for none.
        suppressions: the files that are in force.

    Raises:
        OSError: the document cannot be written.

    >>> callable(main)
    True
    """
    evidence: crash.Evidence = json.loads(sys.stdin.buffer.read().decode("utf-8", "surrogatepass"))
    pid = os.getppid()
    is_first = str(pid) == first
    path = document if is_first or not document else f"{document}.{pid}"
    if "end" in evidence:
        if document:
            _end(path, evidence, suppressions)
        return
    layout = crash.layout_of(pid)
    record = crash.record_of(evidence, layout)
    ink = Ink(color=wants_color(stderr.is_terminal(), os.environ), unicode=stderr.can_show("│╰─├┤█…·"))
    whose = "" if is_first else f"memprot: in process {pid}, {printable(_program_of(pid))}:\n"
    # Only a last handler knows registers; what was found without a signal names the one to come.
    dies = bool(evidence["registers"]) or (evidence["finding"] > 0 and evidence["signal"] > 0)
    if not dies:
        record = record._replace(recovered=True)
    appendix = crash.appendix(evidence, layout) if dies else ()
    stderr.say(whose + render(record, policy, ink) + "".join(f"{ink.line(*line)}\n" for line in appendix))
    if generated and not dies:
        hand_out(suppression_block(record), generated)
    if document:
        content = _read(path, pid)
        content["faults"].append(fault_document(record))
        content["exit"] = -record.signal if dies else None
        _set_guarded(content, evidence["guarded"])
        _write(path, content)


def _set_guarded(content: dict[str, Any], guarded: list[list[int]]) -> None:
    """Of malloc alone: the pools' first block, which the library makes for itself, is no array."""
    counts = [row if target == "malloc" else [0] * len(row) for target, row in zip(ALLOCATORS, guarded, strict=True)]
    crash.set_guarded(content, counts)


def _program_of(pid: int) -> str:
    arguments = _arguments_of(pid)
    return arguments[0] if arguments else "?"


def _arguments_of(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    except OSError:  # /proc is not mounted
        return []


def _read(path: str, pid: int) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content: dict[str, Any] = json.load(file)
    except (FileNotFoundError, ValueError):
        content = {"schema": 1, "argv": _arguments_of(pid), "exit": None, "guarded": {}, "suppressed": [], "faults": []}
    return content


def _write(path: str, content: dict[str, Any]) -> None:
    _native.write_document(os.fsencode(path), (json_text(content) + "\n").encode())


def _end(path: str, evidence: dict[str, Any], suppressions: tuple[str, ...]) -> None:
    content = _read(path, os.getppid())
    content["exit"] = evidence["end"]
    counts = evidence["counts"]
    # Before them are those of a program that has executed this one in its place.
    for fault, count in zip(content["faults"][len(content["faults"]) - len(counts) :], counts, strict=True):
        fault["count"] = count
    if evidence["suppressed"]:
        content["suppressed"] = [
            {"name": one.name, "place": one.place, "count": count}
            for one, count in zip(read(suppressions), evidence["suppressed"], strict=True)
        ]
    _set_guarded(content, evidence["guarded"])
    _write(path, content)
