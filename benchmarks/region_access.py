"""Reading and writing a Region byte by byte and in slices, against an ``mmap`` object of the same size."""

import mmap
from functools import partial
from typing import TYPE_CHECKING

from measure import Row, interleaved

from memprot import PAGE_SIZE, Region

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 20_000
RUNS = 41
OFFSET = 100


def load(memory: Region | mmap.mmap) -> None:
    for _ in range(STEPS):
        memory[OFFSET]


def store(memory: Region | mmap.mmap) -> None:
    for _ in range(STEPS):
        memory[OFFSET] = 7


def load_slice(memory: Region | mmap.mmap) -> None:
    for _ in range(STEPS):
        memory[OFFSET : OFFSET + 8]


def read_method(memory: Region) -> None:
    read = memory.read
    for _ in range(STEPS):
        read(OFFSET, 8)


def load_all(memory: Region | mmap.mmap) -> None:
    for _ in range(STEPS // 10):
        memory[:]


def read_all(memory: Region) -> None:
    read = memory.read
    for _ in range(STEPS // 10):
        read()


def rows() -> list[Row]:
    found = []
    with Region(16 * PAGE_SIZE) as region, mmap.mmap(-1, 16 * PAGE_SIZE) as theirs:
        region[:] = theirs[:] = bytes(len(region))
        cases: list[tuple[str, Callable[[Region], None], Callable[[mmap.mmap], None], int]] = [
            ("Region[i], against mmap[i]", load, load, STEPS),
            ("Region[i] = 7, against mmap[i] = 7", store, store, STEPS),
            ("Region[i:i + 8], against mmap[i:i + 8]", load_slice, load_slice, STEPS),
            ("Region.read(i, 8), against mmap[i:i + 8]", read_method, load_slice, STEPS),
            ("Region.read() of 64 KiB, against mmap[:]", read_all, load_all, STEPS // 10),
        ]
        for what, ours, other, steps in cases:
            mine, its, _ = interleaved(partial(ours, region), partial(other, theirs), RUNS)
            found.append(Row(what, mine / steps, its / steps, 1.3))
    return found


if __name__ == "__main__":
    from measure import show

    show(rows())
