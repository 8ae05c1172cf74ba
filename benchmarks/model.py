"""The model of an address space: its operations one by one, and how they slow down as mappings grow many."""

import random
import time
from collections.abc import Callable
from itertools import cycle

from measure import Row, interleaved

from memprot import PAGE_SIZE
from memprot.flags import Advice, MapFlag
from memprot.model import AddressSpace

START = 0x10000000
PRIVATE = int(MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED)
OPERATIONS = 4_000
RUNS = 11
FEW, MANY = 20, 60_000
GOAL = 1e-5
"""The seconds that an operation on a small space may take: 100,000 in a second."""
Operation = tuple[Callable[..., object], tuple[int, ...]]


def space_with(mappings: int) -> AddressSpace:
    """So many mappings of one page that differ from their neighbours, and a writable range above them."""
    space = AddressSpace()
    for number in range(mappings - 1):
        space.mmap(START + number * PAGE_SIZE, PAGE_SIZE, 1 + number % 2 * 2, PRIVATE)
    space.mmap(START + (mappings + 8) * PAGE_SIZE, 64 * PAGE_SIZE, 3, PRIVATE)
    return space


def operations(space: AddressSpace, above: int, seed: int) -> list[Operation]:
    """Calls and accesses in a range of 64 pages, that split and merge and leave the number of mappings as it is."""
    dice = random.Random(seed)
    first = START + (above + 8) * PAGE_SIZE
    chosen: list[Operation] = []
    while len(chosen) < OPERATIONS:
        page = first + dice.randrange(60) * PAGE_SIZE
        size = dice.randint(1, 4) * PAGE_SIZE
        chosen += (
            (space.mprotect, (page, size, dice.choice((0, 1, 3, 5)))),
            (space.mmap, (page, size, 3, PRIVATE)),
            (space.mprotect, (page, PAGE_SIZE, 1)),
            (space.madvise, (page, PAGE_SIZE, int(Advice.GUARD_INSTALL))),
            (space.mprotect, (page, PAGE_SIZE, 3)),
            (space.madvise, (page, PAGE_SIZE, int(Advice.GUARD_REMOVE))),
        )
    return chosen


def run(chosen: list[Operation]) -> Callable[[], None]:
    def side() -> None:
        for call, arguments in chosen:
            call(*arguments)

    return side


def fastest(side: Callable[[], None]) -> float:
    """Of several runs, for what they are held against is a number, which nothing else on the machine slows down."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        side()
        times.append(time.perf_counter() - start)
    return min(times)


def scattered(space: AddressSpace, mappings: int) -> Callable[[], None]:
    """Pages all over the space made readable and writable again, by which neighbours merge and split."""
    pages = cycle(random.Random(1).sample(range(1, mappings - 2), min(mappings - 3, 997)))

    def side() -> None:
        for _ in range(OPERATIONS // 4):
            number = next(pages)
            address = START + number * PAGE_SIZE
            space.mprotect(address, PAGE_SIZE, 5)
            space.mprotect(address, PAGE_SIZE, 1 + number % 2 * 2)
            found = space.mmap(0, PAGE_SIZE, 0, PRIVATE & ~int(MapFlag.FIXED))
            space.munmap(found, PAGE_SIZE)

    return side


def rows() -> list[Row]:
    few, many = space_with(FEW), space_with(MANY)
    small = fastest(run(operations(few, FEW, 1)))
    crowded, empty, _ = interleaved(scattered(many, MANY), scattered(few, FEW), 5)
    return [
        Row("model: an operation on a small space, against 10 us", small / OPERATIONS, GOAL, 1),
        Row(
            f"model: an operation among {MANY:,} mappings, against {FEW} ({MANY // FEW:,} times fewer)",
            crowded / OPERATIONS,
            empty / OPERATIONS,
            5,
        ),
    ]


if __name__ == "__main__":
    from measure import show

    show(rows())
