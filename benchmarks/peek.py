"""Reading and writing at an address, against the file that shows a process its own memory."""

import os
from functools import partial

from measure import Row, interleaved

from memprot import Region, peek, poke

STEPS = 5_000
RUNS = 21


def peeks(address: int, size: int, steps: int) -> None:
    for _ in range(steps):
        peek(address, size)


def reads(fd: int, address: int, size: int, steps: int) -> None:
    for _ in range(steps):
        os.pread(fd, size, address)


def pokes(address: int, data: bytes, steps: int) -> None:
    for _ in range(steps):
        poke(address, data)


def writes(fd: int, address: int, data: bytes, steps: int) -> None:
    for _ in range(steps):
        os.pwrite(fd, data, address)


def rows() -> list[Row]:
    found = []
    with Region(1 << 20) as region, open("/proc/self/mem", "r+b", buffering=0) as memory:
        fd, address = memory.fileno(), region.address
        region[:] = bytes(range(256)) * 4096
        for size, steps in ((8, STEPS), (4096, STEPS), (1 << 20, STEPS // 100)):
            ours, theirs, _ = interleaved(
                partial(peeks, address, size, steps), partial(reads, fd, address, size, steps), RUNS
            )
            found.append(Row(f"peek of {size} bytes, against /proc/self/mem", ours / steps, theirs / steps, None))
            data = bytes(size)
            ours, theirs, _ = interleaved(
                partial(pokes, address, data, steps), partial(writes, fd, address, data, steps), RUNS
            )
            found.append(Row(f"poke of {size} bytes, against /proc/self/mem", ours / steps, theirs / steps, None))
    return found


if __name__ == "__main__":
    from measure import show

    show(rows())
