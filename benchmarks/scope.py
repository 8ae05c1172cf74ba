"""Opening and closing a scope that catches nothing, against the time that is promised for it."""

import contextlib
import statistics
import time

from measure import Row

from memprot import Region, catch_faults

PROMISED = 600e-9
SCOPES = 1_000
RUNS = 1_001


def measured() -> float:
    """The median time of a scope over many short runs, of which most are interrupted by nothing."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        for _ in range(SCOPES):
            with catch_faults():
                pass
        times.append((time.perf_counter() - start) / SCOPES)
    return statistics.median(times)


def rows() -> list[Row]:
    found = []
    # Without memory of memprot's the outermost scope installs a handler, and takes it down again; with it, each scope
    # looks whether the handlers are still on top.
    for what, memory in (("without a Region", contextlib.nullcontext()), ("with a Region", Region(1))):
        with memory:
            found.append(Row(f"the outermost catch_faults() {what}, against 600 ns", measured(), PROMISED, 1))
            with catch_faults():
                found.append(Row(f"catch_faults() in an open scope {what}, against 600 ns", measured(), PROMISED, 1))
    return found


if __name__ == "__main__":
    from measure import show

    show(rows())
