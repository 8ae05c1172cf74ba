"""Faults by the million: 16 threads, memory of every kind, regions that come and go, forks, and no error anywhere.

``load.py FAULTS`` prints what was seen as JSON; ``misbehave`` must be importable. Each worker has memory of its own,
two share theirs. What must hold is in ``test_load.py``.
"""

import contextlib
import gc
import importlib
import json
import mmap
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable

from memprot import PAGE_SIZE, FaultError, Region, _native, catch_faults, guarded, protect
from memprot.faults import engine
from memprot.faults.native_record import NativeRecord

misbehave = importlib.import_module("misbehave")  # of tests/native, built by whoever starts this

PAGES, LONGEST, SCATTERED = 64, 40, 24
CONTENT = (bytes(range(1, 252)) * (PAGES * PAGE_SIZE // 251 + 1))[: PAGES * PAGE_SIZE]
THREAD, ADDRESS, FAULTS = (NativeRecord._fields.index(name) for name in ("thread", "address", "faults"))


class Place:
    """Memory that may not be written: a Region."""

    def __init__(self, prot: str, *, shared: bool) -> None:
        self.prot = prot
        self.region = Region(PAGES * PAGE_SIZE, shared=shared)
        self.region[:] = CONTENT
        self.region.protect(prot)
        self.start, self.size = self.region.address, self.region.size

    def restore(self) -> None:
        """Permit everything for a moment."""
        self.region.protect("rw-")
        self.forbid()

    def forbid(self) -> None:
        self.region.protect(self.prot)

    def close(self) -> None:
        self.region.close()

    def content(self) -> bytes:
        self.region.protect("r--")
        found = self.region.read()
        self.region.protect(self.prot)
        return found

    def is_intact(self) -> bool:
        return self.content() == CONTENT


class Shared(Place):
    """A Region that several threads write to."""

    def restore(self) -> None:
        self.forbid()


class BehindGuard(Place):
    """The guard behind a block."""

    def __init__(self) -> None:
        self.region = guarded(PAGE_SIZE)
        self.region[:] = CONTENT[:PAGE_SIZE]
        self.start, self.size = self.region.address + PAGE_SIZE, 16 * PAGE_SIZE

    def restore(self) -> None:
        pass

    def forbid(self) -> None:
        pass

    def is_intact(self) -> bool:
        return self.region.read() == CONTENT[:PAGE_SIZE]


class Foreign(Place):
    """Memory that memprot did not make, given to protect()."""

    def __init__(self, *, shared: bool) -> None:
        kind = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
        self.memory = mmap.mmap(-1, PAGES * PAGE_SIZE, flags=kind | mmap.MAP_ANONYMOUS)
        self.memory[:] = CONTENT
        protect(self.memory, "r--")
        self.start, self.size, _ = _native.buffer_range(self.memory)

    def restore(self) -> None:
        protect(self.memory, "rw-")
        self.forbid()

    def forbid(self) -> None:
        protect(self.memory, "r--")

    def close(self) -> None:
        protect(self.memory, "rw-")
        self.memory.close()

    def is_intact(self) -> bool:
        return self.memory[:] == CONTENT


KINDS: list[Callable[[], Place]] = [
    lambda: Place("r--", shared=False),
    lambda: Place("r--", shared=True),
    lambda: Place("---", shared=False),
    lambda: Place("---", shared=True),
    BehindGuard,
    lambda: Foreign(shared=False),
    lambda: Foreign(shared=True),
]


class Tally(threading.Thread):
    """A thread that counts what it was told."""

    stop = threading.Event()

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.calls = self.raised = self.told = self.quiet = self.at_the_end = self.strange = 0

    def judge(self, fault: FaultError, place: Place) -> None:
        for each in (fault, *fault.others):
            if each._row is None:
                self.strange += 1
                continue
            self.told += each._row[FAULTS]
            if each._row[THREAD] != self.native_id:
                self.strange += 1
            if not place.start <= each._row[ADDRESS] < place.start + place.size:
                self.strange += 1

    def attempt(self, call: Callable[[], object], place: Place) -> None:
        self.calls += 1
        reached = False
        try:
            call()
            reached = True
        except FaultError as fault:
            self.raised += 1
            self.judge(fault, place)
        if reached:
            self.quiet += 1

    def work(self) -> None:
        raise NotImplementedError

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.work()
        except BaseException:
            self.strange += 1
            raise


class Worker(Tally):
    """Calls of native code, with the interpreter held or not, into one place."""

    def __init__(self, place: Place, *, gil: bool, seed: int) -> None:
        super().__init__(f"worker {seed}")
        self.place, self.gil = place, gil
        self.random = random.Random(seed)

    def one_call(self) -> Callable[[], object]:
        start, gil = self.place.start, self.gil
        pages = self.place.size // PAGE_SIZE
        first = self.random.randrange(pages)
        longest = min(LONGEST, pages - first)
        length = self.random.randint(1, longest) * PAGE_SIZE
        at = start + first * PAGE_SIZE
        match self.random.randrange(4):
            case 0:
                return lambda: misbehave.set(at, 0xEE, length, gil=gil)
            case 1:
                return lambda: misbehave.stosb(at, 0xEE, length, gil=gil)
            case _:
                # Every other page: no access goes on where the last one ended.
                count = min(SCATTERED, (longest + 1) // 2)
                return lambda: misbehave.hammer(at, 2 * PAGE_SIZE, count, gil=gil)

    def work(self) -> None:
        scope = catch_faults()
        try:
            with scope:
                for _ in range(self.random.randint(1, 10)):
                    self.attempt(self.one_call(), self.place)
        except FaultError as fault:
            self.at_the_end += 1
            self.judge(fault, self.place)
        if self.random.randrange(8) == 0:
            self.place.restore()


class Churn(Tally):
    """Makes memory, meets a fault on it or none, and closes it; closes the pages that the sharing threads have open."""

    def __init__(self, shared: Place, seed: int) -> None:
        super().__init__(f"churn {seed}")
        self.shared = shared
        self.random = random.Random(seed)

    def work(self) -> None:
        with catch_faults():
            place = self.random.choice(KINDS[:5])()
            for _ in range(self.random.randrange(3)):
                self.attempt(lambda: misbehave.set(place.start, 1, place.size, gil=False), place)
            place.close()
            self.shared.forbid()


def state() -> dict[str, int]:
    with open("/proc/self/statm") as statm:
        resident = int(statm.read().split()[1]) * PAGE_SIZE
    with open("/proc/self/maps") as maps:
        mappings = sum(1 for line in maps if "[heap]" not in line)
    return {
        "resident": resident,
        "mappings": mappings,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def raises(place: Place, *, gil: bool) -> bool:
    try:
        with catch_faults():
            misbehave.hammer(place.start, 2 * PAGE_SIZE, 4, gil=gil)
    except FaultError:
        return place.is_intact()
    return False


def in_child(places: list[Place]) -> int:
    """What a forked child exits with: 0 when it faults, recovers, and finds its data."""
    signal.alarm(60)
    for number, place in enumerate(places):
        place.forbid()  # its thread, which is not here, may have been about to
        if not raises(place, gil=number % 2 == 0):
            return 100 + number
    for number, kind in enumerate(KINDS):
        if not raises(kind(), gil=number % 2 == 0):
            return 200 + number
    return 0


def fork(places: list[Place]) -> str:
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = in_child(places)
        finally:
            os._exit(status)
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def listened(faults: int) -> bool:
    """Whether a listener is told of each of so many faults once."""
    told: list[int] = []
    place = Place("r--", shared=False)
    before = _native.fault_count()

    def listener(record: object) -> None:
        told.append(id(record))

    engine.add_listener(listener)
    for _ in range(faults):
        with contextlib.suppress(FaultError), catch_faults():
            misbehave.write(place.start, 1, gil=False)
    engine.remove_listener(listener)
    place.region.close()
    return len(told) == _native.fault_count() - before == faults


def spend(seconds: float, until: Callable[[], bool], places: list[Place], shown: Callable[[], str]) -> dict[str, int]:
    """Fork every so many seconds until it is over; how often children ended how."""
    children: dict[str, int] = {}
    told = time.monotonic()
    while not until() or not children:
        status = fork(places)
        children[status] = children.get(status, 0) + 1
        time.sleep(seconds)
        if time.monotonic() - told > 5:
            told = time.monotonic()
            print(shown(), file=sys.stderr, flush=True)
    return children


def load(target: int) -> dict[str, object]:
    """So many faults, and what became of them."""
    together = Shared("r--", shared=False)
    places = [kind() for kind in KINDS for _ in range(2)]
    workers = [Worker(place, gil=index % 2 == 0, seed=index) for index, place in enumerate(places)]
    sharing = [Worker(together, gil=gil, seed=100 + gil) for gil in (False, True)]
    churning = [Churn(together, seed) for seed in (200, 201)]
    everyone: list[Tally] = [*workers, *sharing, *churning]
    already, began = _native.fault_count(), time.monotonic()
    Tally.stop.clear()

    def progress() -> str:
        faults = _native.fault_count() - already
        return f"{faults:,} of {target:,} faults, {faults / (time.monotonic() - began):,.0f} a second"

    def is_over() -> bool:
        return _native.fault_count() - already >= target or not all(thread.is_alive() for thread in everyone)

    for thread in everyone:
        thread.start()
    children = spend(0.1, is_over, [*places, together], progress)
    Tally.stop.set()
    for thread in everyone:
        thread.join()
    result: dict[str, object] = {
        "faults": _native.fault_count() - already,
        "told": sum(thread.told for thread in everyone),
        "seconds": time.monotonic() - began,
        "calls": [thread.calls for thread in workers],
        "raised": [thread.raised for thread in workers],
        "quiet": sum(thread.quiet for thread in workers),
        "at_the_end": sum(thread.at_the_end for thread in workers),
        "of_two": [(thread.calls, thread.raised, thread.quiet, thread.at_the_end) for thread in sharing],
        "of_churn": [(thread.calls, thread.raised, thread.quiet, thread.at_the_end) for thread in churning],
        "strange": sum(thread.strange for thread in everyone),
        "children": children,
        "identical": all(place.is_intact() for place in [*places, together]),
        "waiting": _native.fault_waiting(),
    }
    for place in [*places, together]:
        place.close()
    return result


def main() -> None:
    warnings.simplefilter("ignore", DeprecationWarning)  # of a fork while threads run
    target = int(sys.argv[1])
    all_listened = listened(50)
    rounds, states = [], []
    for part in (target // 4, target - target // 4):
        rounds.append(load(part))
        gc.collect()
        states.append(state())
    print(json.dumps({"rounds": rounds, "states": states, "listened": all_listened}))


if __name__ == "__main__":
    main()
