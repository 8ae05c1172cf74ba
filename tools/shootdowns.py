"""Count how often a change of protection interrupts another processor of the same process, as a Markdown table.

Run it with the environment's Python: ``.venv/bin/python tools/shootdowns.py``. It needs two processors, and x86,
where /proc/interrupts counts the interrupts that make a processor forget page-table entries (TLB). What the
table means is told in docs/memory-ordering.md.
"""

import ctypes
import hashlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from memprot import PAGE_SIZE, Prot, calls
from memprot.flags import MapFlag

CALLS = 1000
CHANGES = ("rw-", "r--", "rw-", "---", "rw-")
"""The protections that each page gets, one after the other, beginning with the one it was mapped with."""


def interrupts(cpu: int) -> int:
    """How often a processor was told to forget entries, since the system started."""
    first, *lines = Path("/proc/interrupts").read_text().splitlines()
    column = 1 + first.split().index(f"CPU{cpu}")
    for line in lines:
        fields = line.split()
        if fields and fields[0] == "TLB:":
            return int(fields[column])
    raise SystemExit("/proc/interrupts has no line TLB: on this machine nobody counts them")


def keep_busy(cpu: int) -> None:
    """Compute on one processor, without the GIL, for longer than the measurement takes."""
    os.sched_setaffinity(0, {cpu})
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000)


def measure(count: Callable[[], int], touched: bool) -> Iterator[str]:
    """One line for each change: what it was, and how often it interrupted."""
    # Every second page, so that each call finds mappings of the same shape.
    size = 2 * CALLS * PAGE_SIZE
    block = calls.mmap(0, size, Prot(CHANGES[0]), MapFlag.PRIVATE | MapFlag.ANONYMOUS)
    if touched:
        ctypes.memset(block, 1, size)
    for before, after in itertools.pairwise(CHANGES):
        start = count()
        for page in range(block, block + size, 2 * PAGE_SIZE):
            calls.mprotect(page, PAGE_SIZE, Prot(after))
        pages = "written before" if touched else "never touched"
        yield f"| {pages} | {before} to {after} | {(count() - start) / CALLS:.2f} |"
    calls.munmap(block, size)


def main() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("there is one processor: no other can be interrupted")
    other = threading.Thread(target=keep_busy, args=(cpus[1],))
    other.start()
    os.sched_setaffinity(0, {cpus[0]})
    time.sleep(0.1)
    print("| page | mprotect | interrupts of the other processor, per call |")
    print("|---|---|---:|")
    for touched in (True, False):
        for line in measure(lambda: interrupts(cpus[1]), touched):
            print(line)
    if not other.is_alive():
        sys.exit("the other thread had come to its end too early: the figures say nothing")
    other.join()


if __name__ == "__main__":
    main()
