"""What memprot and AddressSanitizer say of a seeded bug, compared with what must be said."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.seeded.bug import Bug

ROOT = Path(__file__).parent.parent.parent
SECONDS = 280
REFUSED = 2  # what memprot exits with when it does not understand its options, or cannot do what they ask


class Verdict(NamedTuple):
    """How one bug was found.

    Attributes:
        refused: why memprot did not run the program; None when it did.
        said: what the report says, in a few words; empty when nothing was found.
        classified: whether kind, access, distance and size are right.
        located: whether the Python lines are right: of the access, and of the block's allocation and freeing.
    """

    refused: str | None
    said: str
    classified: bool
    located: bool
    faults: list[dict[str, Any]]

    @property
    def found(self) -> bool:
        return self.classified and self.located


def under_memprot(bug: Bug, folder: Path) -> Verdict:
    """Runs a bug in a program of its own under ``memprot run``."""
    report = folder / f"{bug.name}.json"
    report.unlink(missing_ok=True)
    done = memprot_run(folder, [bug.name], report, *options(bug))
    if done.returncode == REFUSED and not report.exists():
        return Verdict(_last_line(done.stderr), "", False, False, [])
    faults = json.loads(report.read_text())["faults"]
    if not faults:
        return Verdict(None, "", False, False, [])
    return Verdict(None, _words(faults[0]), bug.expected.fits(faults[0]), _located(bug, faults[0]), faults)


def options(bug: Bug) -> list[str]:
    """The options of ``memprot run`` that a bug is found with."""
    guard = [] if bug.guard in (None, "numpy") else ["--guard", bug.guard]
    return [*map(str, guard), *bug.options]


def memprot_run(
    folder: Path, names: list[str], report: Path, *options: str, environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Runs functions of ``folder`` under ``memprot run``, with a report as data."""
    command = [sys.executable, "-m", "memprot", "run", "--quiet", "--json", str(report), *options]
    return _run([*command, "-m", "tests.seeded.program", str(folder), *names], **environment or {})


def under_address_sanitizer(names: list[str], folder: Path, library: str) -> str:
    """What AddressSanitizer says of functions that were built with it; empty when nothing."""
    done = _run(
        [sys.executable, "-m", "tests.seeded.program", str(folder), *names],
        LD_PRELOAD=library,
        PYTHONMALLOC="malloc",
        ASAN_OPTIONS="detect_leaks=0:color=never",
    )
    error = re.search(r"ERROR: AddressSanitizer: (?:attempting )?(\S+)", done.stderr)
    if error is None:
        return "" if done.returncode == 0 else f"exit status {done.returncode}: {_last_line(done.stderr)}"
    return {"free": "bad-free"}.get(error[1], error[1])


def _run(command: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True, timeout=SECONDS
    )


def _located(bug: Bug, fault: dict[str, Any]) -> bool:
    block = fault["object"] or {}
    lines = {"fault": (fault["python"] or [None])[0], "allocated": block.get("allocated"), "freed": block.get("freed")}
    return all(
        frame is not None and (frame["file"], frame["line"]) == (bug.file, bug.line(mark))
        for mark, frame in lines.items()
        if bug.line(mark) is not None
    )


def _words(fault: dict[str, Any]) -> str:
    words = [fault["kind"], fault["access"]]
    if fault["size"] is not None:
        words.append(f"of {fault['size']}")
    if fault["distance"] is not None:
        words.append(f"at {fault['distance']:+}")
    return " ".join(words)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2] or "it said nothing"
