"""Count what two threads can see of each other's stores: the store-buffer litmus test, as a Markdown table.

Run it with the environment's Python: ``.venv/bin/python tools/litmus.py [SECONDS]``, the seconds being the most
that one line of the table may take (20 when left out). docs/memory-ordering.md says what the table means.
"""

import ctypes
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "tests" / "native" / "litmus.c"
MOST_ROUNDS = 10_000_000
BATCH = 20_000
BURDENS = (0, 4, 16, 64)
"""How many contended cache lines are written before the store, in turn: they keep it waiting."""


class Between(IntEnum):
    """What a thread does between its store and its load, as in enum between of litmus.c."""

    NOTHING = 0
    FENCE = 1
    MEMBARRIER = 2
    SYSTEM_CALL = 3
    MPROTECT_NO_BYTES = 4
    MPROTECT_UNTOUCHED = 5
    MPROTECT_TIGHTEN = 6
    MPROTECT_WIDEN = 7
    MPROTECT_OF_STORED = 8

    @property
    def words(self) -> str:
        return WORDS[self]


WORDS = {
    Between.NOTHING: "nothing",
    Between.FENCE: "a full fence",
    Between.MEMBARRIER: "membarrier, private expedited",
    Between.SYSTEM_CALL: "getpid",
    Between.MPROTECT_NO_BYTES: "mprotect of 0 bytes",
    Between.MPROTECT_UNTOUCHED: "mprotect of a page never touched",
    Between.MPROTECT_TIGHTEN: "mprotect of another page, rw- to r--",
    Between.MPROTECT_WIDEN: "mprotect of another page, r-- to rw-",
    Between.MPROTECT_OF_STORED: "mprotect of the page stored to, rw- to r--",
}
Pair = tuple[Between, Between]
CASES: tuple[Pair, ...] = (
    *((kind, kind) for kind in Between),
    *((kind, Between.NOTHING) for kind in Between if kind is not Between.NOTHING),
)


def is_promised(pair: Pair) -> bool:
    """Whether somebody promises that not both loads find the old value.

    Fences order their own thread, so both threads need one. membarrier(2) orders every running thread of the
    process at some point of the call, so one thread suffices and the other needs nothing.
    """
    return Between.MEMBARRIER in pair or pair == (Between.FENCE, Between.FENCE)


@dataclass
class Outcomes:
    """How often both loads found the old value, only the first or the second thread's the new one, both."""

    both_old: int = 0
    first_new: int = 0
    second_new: int = 0
    both_new: int = 0

    @property
    def rounds(self) -> int:
        return self.both_old + self.first_new + self.second_new + self.both_new

    def __add__(self, other: "Outcomes") -> "Outcomes":
        return Outcomes(
            self.both_old + other.both_old,
            self.first_new + other.first_new,
            self.second_new + other.second_new,
            self.both_new + other.both_new,
        )


class Litmus:
    """The test in C, compiled into a folder."""

    def __init__(self, folder: Path) -> None:
        library = folder / "litmus.so"
        command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]
        subprocess.run([*command, "-o", library, SOURCE], check=True)
        self._run = ctypes.CDLL(str(library)).litmus_store_buffer
        self._run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint64, ctypes.c_void_p)

    def run(self, pair: Pair, rounds: int, burden: int = 0) -> Outcomes:
        """Run it on the first two processors there are; on the only one where there is one."""
        cpus = sorted(os.sched_getaffinity(0))
        counts = (ctypes.c_uint64 * 4)()
        kinds = (ctypes.c_int * 2)(*pair)
        places = (ctypes.c_int * 2)(cpus[0], cpus[min(1, len(cpus) - 1)])
        error = self._run(kinds, places, burden, rounds, counts)
        if error:
            raise OSError(error, os.strerror(error))
        return Outcomes(*counts)


def measure(litmus: Litmus, pair: Pair, seconds: float) -> Outcomes:
    """Rounds until there are enough or the time is up."""
    outcomes = Outcomes()
    end = time.monotonic() + seconds
    while outcomes.rounds < MOST_ROUNDS and time.monotonic() < end:
        for burden in BURDENS:
            outcomes += litmus.run(pair, BATCH // len(BURDENS), burden)
    return outcomes


def table(litmus: Litmus, seconds: float, cases: Iterable[Pair] = CASES) -> Iterator[str]:
    """The lines of the table, each as soon as it is known."""
    yield "| one thread | the other thread | rounds | both loads old | promised never |"
    yield "|---|---|---:|---:|---|"
    for pair in cases:
        outcomes = measure(litmus, pair, seconds)
        first, second = (kind.words for kind in pair)
        promised = "yes" if is_promised(pair) else "no"
        yield f"| {first} | {second} | {outcomes.rounds:,} | {outcomes.both_old:,} | {promised} |"


def main(arguments: list[str]) -> None:
    seconds = float(arguments[0]) if arguments else 20.0
    processors = len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {processors} processor(s), Linux {platform.release()}\n")
    with tempfile.TemporaryDirectory() as folder:
        for line in table(Litmus(Path(folder)), seconds):
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
