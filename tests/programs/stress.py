"""Overwrite protected memory from six threads, attached and detached, until there were enough faults.

``stress.py own|one FAULTS``: each thread has a Region of its own, or all have one. Prints what was seen as JSON.
"""

import ctypes
import json
import os
import random
import sys
import threading
from collections.abc import Callable

from memprot import PAGE_SIZE, FaultError, Region, _native, catch_faults

PAGES, LONGEST = 200, 40
ATTACHED, DETACHED = ctypes.PyDLL(None).memset, ctypes.CDLL(None).memset
for function in (ATTACHED, DETACHED):
    function.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    function.restype = None
CONTENT = bytes(range(1, 252)) * (PAGES * PAGE_SIZE // 251 + 1)
# Protection, shared, the function that writes.
THREADS: list[tuple[str, bool, Callable[[int, int, int], None]]] = [
    ("r--", False, ATTACHED),
    ("r--", False, DETACHED),
    ("r--", True, ATTACHED),
    ("r--", True, DETACHED),
    ("---", False, DETACHED),
    ("---", True, DETACHED),
]


def make(prot: str, shared: bool) -> Region:
    region = Region(PAGES * PAGE_SIZE, shared=shared)
    region[:] = CONTENT[: region.size]
    region.protect(prot)
    return region


class Worker(threading.Thread):
    """Calls, and counts what became of them."""

    def __init__(self, index: int, region: Region, write: Callable[[int, int, int], None], enough: int) -> None:
        super().__init__(name=f"worker {index}")
        self.random = random.Random(index)
        self.region, self.write, self.enough = region, write, enough
        self.start_address = region.address
        self.calls = self.raised = self.quiet = self.at_the_end = self.strange = self.faults = 0

    def judge(self, fault: FaultError, first: int) -> None:
        for each in (fault, *fault.others):
            if each.thread is None or each.thread.id != self.native_id or each.region is not self.region:
                self.strange += 1
        if first >= 0 and fault.offset is not None and not first <= fault.offset:
            self.strange += 1

    def call(self) -> None:
        first = self.random.randrange(PAGES - LONGEST) * PAGE_SIZE + self.random.randrange(PAGE_SIZE)
        pages = self.random.randint(1, LONGEST)
        self.calls += 1
        reached = False
        try:
            self.write(self.start_address + first, 0xEE, (pages - 1) * PAGE_SIZE + 1)
            reached = True
        except FaultError as fault:
            self.raised += 1
            self.faults += pages.bit_length()  # the windows double: that many faults at least
            self.judge(fault, first)
        if reached:
            self.quiet += 1

    def run(self) -> None:
        while self.faults < self.enough and self.calls < self.enough:
            try:
                with catch_faults() as scope:
                    for _ in range(self.random.randint(1, 10)):
                        self.call()
            except FaultError as fault:
                self.at_the_end += 1
                self.judge(fault, -1)
            try:
                scope.check()
            except FaultError:
                self.strange += 1


def mappings() -> int:
    with open("/proc/self/maps") as maps:
        return sum(1 for line in maps if "[heap]" not in line)


def main() -> None:
    kind, faults = sys.argv[1], int(sys.argv[2])
    if kind == "own":
        rows = [[make(prot, shared)] for prot, shared, _ in THREADS]
    else:
        rows = [[make("r--", sys.argv[3] == "shared")]] * len(THREADS)
    regions = [row[0] for row in rows]
    enough = -(-faults // len(THREADS))
    workers = [Worker(index, regions[index], THREADS[index][2], enough) for index in range(len(THREADS))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for region in regions:
        region.protect("r--")
    print(
        json.dumps(
            {
                "faults": sum(worker.faults for worker in workers),
                "calls": [worker.calls for worker in workers],
                "raised": [worker.raised for worker in workers],
                "quiet": [worker.quiet for worker in workers],
                "at_the_end": [worker.at_the_end for worker in workers],
                "strange": sum(worker.strange for worker in workers),
                "identical": all(region.read() == CONTENT[: region.size] for region in regions),
                "waiting": _native.fault_waiting(),
                "mappings": [len(region.mappings) for region in regions],
                "all_mappings": mappings(),
                "threads": len(os.listdir("/proc/self/task")),
            }
        )
    )


main()
