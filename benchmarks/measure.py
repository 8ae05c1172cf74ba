"""Measuring two things side by side, and showing the result.

A row of the table is a claim: ours takes at most ``target`` times what theirs takes. Both sides run in turn
in one process, so that whatever slows the machine down slows both.
"""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One comparison; times in seconds for the same amount of work."""

    what: str
    ours: float
    theirs: float
    target: float | None
    """The ratio that was promised; None where none was."""
    faster: bool = False
    """Whether the ratio is theirs / ours, at least the target; otherwise ours / theirs, at most."""

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours if self.faster else self.ours / self.theirs

    @property
    def reached(self) -> bool:
        if self.target is None:
            return True
        return self.ratio >= self.target if self.faster else self.ratio <= self.target


def interleaved(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    runs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float, float]:
    """The median seconds of each side over that many runs in turn, and the median ratio of a turn."""
    times: tuple[list[float], list[float]] = ([], [])
    # The first run of anything pays for what the others find ready.
    ours()
    theirs()
    for run in range(runs):
        for side in (0, 1) if run % 2 else (1, 0):
            start = clock()
            (ours, theirs)[side]()
            times[side].append(clock() - start)
    ratios = (one / other for one, other in zip(*times, strict=True))
    return statistics.median(times[0]), statistics.median(times[1]), statistics.median(ratios)


def machine() -> str:
    """What the figures were measured on."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return (
        f"{cpu}, {len(os.sched_getaffinity(0))} CPUs, Linux {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})"
    )


def _time(seconds: float) -> str:
    for scale, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def show(rows: Iterable[Row]) -> bool:
    """Print the rows under a description of the machine; whether every target was reached."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(machine(), markup=False)
    table = Table("what", "ours", "theirs", "ratio", "target", "reached")
    reached = True
    for row in rows:
        reached &= row.reached
        table.add_row(
            escape(row.what),
            _time(row.ours),
            _time(row.theirs),
            f"{row.ratio:.3g}x{' faster' if row.faster else ''}",
            "" if row.target is None else f"{'>=' if row.faster else '<='} {row.target:g}x",
            "" if row.target is None else "[green]yes[/]" if row.reached else "[red]no[/]",
        )
    console.print(table)
    return reached
