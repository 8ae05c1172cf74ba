"""What an armed engine costs a program that never faults: pyperformance's workloads with a Region alive and without.

Handlers are installed while there is memory to answer for, and run only when something faults. The workloads are those
that the package pyperformance brings, each as its own program sets it up; what is compared is the CPU time they take.
"""

import argparse
import importlib.util
import platform
import runpy
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from measure import Row, interleaved

from memprot import PAGE_SIZE, Region

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKLOADS = {
    "nbody": [],
    "float": [],
    "json_dumps": [],
    "pickle": ["pickle"],
    "chaos": [],
    "telco": [],
    "unpack_sequence": [],
}
"""Their names, and what their programs are called with."""
RUNS = 15
SECONDS = 0.1  # of a run, about
NOISE = 1.02


class Runner:
    """In pyperf's place: takes what it would time."""

    arguments: ClassVar[list[str]] = []
    work: ClassVar[Callable[[], object]]

    def __init__(self, **_: object) -> None:
        self.argparser = argparse.ArgumentParser()
        self.metadata: dict[str, str] = {}

    def parse_args(self) -> argparse.Namespace:
        return self.argparser.parse_args(self.arguments)

    def bench_func(self, _: str, function: Callable[..., object], *arguments: object, **__: object) -> None:
        Runner.work = lambda: function(*arguments)

    def bench_time_func(self, _: str, function: Callable[..., object], *arguments: object, **__: object) -> None:
        Runner.work = lambda: function(1, *arguments)


@contextmanager
def in_place_of_pyperf() -> "Iterator[None]":
    before = sys.modules.get("pyperf")
    stand_in: Any = ModuleType("pyperf")
    stand_in.Runner, stand_in.perf_counter = Runner, time.perf_counter
    stand_in.python_implementation = platform.python_implementation
    sys.modules["pyperf"] = stand_in
    try:
        yield
    finally:
        del sys.modules["pyperf"]
        if before is not None:
            sys.modules["pyperf"] = before


def workload(name: str) -> Callable[[], object]:
    """What pyperformance would time, once."""
    package = importlib.util.find_spec("pyperformance")
    if package is None or package.origin is None:
        raise RuntimeError("the workloads are pyperformance's: install it with `pip install pyperformance`")
    program = Path(package.origin).parent / "data-files" / "benchmarks" / f"bm_{name}" / "run_benchmark.py"
    with in_place_of_pyperf():
        Runner.arguments = WORKLOADS[name]
        runpy.run_path(str(program), run_name="__main__")
        return Runner.work


def compared(name: str) -> Row:
    work = workload(name)
    work()
    began = time.perf_counter()
    work()
    repeats = max(1, int(SECONDS / (time.perf_counter() - began)))

    def plain() -> None:
        for _ in range(repeats):
            work()

    def armed() -> None:
        with Region(PAGE_SIZE, "r--"):
            plain()

    _, other, ratio = interleaved(armed, plain, RUNS, time.process_time)
    return Row(f"{name} with a Region alive, the median of {RUNS} pairs", other * ratio, other, NOISE)


def rows() -> list[Row]:
    return [compared(name) for name in WORKLOADS]


if __name__ == "__main__":
    from measure import show

    show(rows())
