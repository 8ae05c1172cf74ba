"""Four NumPy workloads with every array ending at a guard, against plain NumPy.

Each side runs in a process of its own, because arrays keep the allocator they were made with; plain and guarded
processes take turns. A process warms up and then gives the least of several times, in seconds of its processor,
which others that run beside it disturb less than the clock on the wall. The peak of resident memory is part of the
price and stands beside the times.
"""

import os
import subprocess
import sys
from pathlib import Path

from measure import Row

PAIRS = 7
REPEATS = 7


def small_arrays() -> None:
    import numpy as np

    for number in range(20_000):
        array = np.arange(100.0)
        scaled = array * number + 1.0
        scaled[10:20].sum()


def linear_algebra() -> None:
    import numpy as np

    matrix = np.random.default_rng(1).standard_normal((300, 300))
    for _ in range(4):
        product = matrix @ matrix.T + np.eye(300)
        np.linalg.solve(product, matrix)
        np.linalg.inv(product)
        np.linalg.eigvalsh(product)


def elementwise() -> None:
    import numpy as np

    array = np.linspace(0.0, 1.0, 4_000_000)
    for _ in range(3):
        array = np.sqrt(array * array + 1.0) - array


def fourier() -> None:
    import numpy as np

    signal = np.linspace(0.0, 1.0, 1 << 18)
    for _ in range(6):
        spectrum = np.fft.rfft(signal)
        signal = np.fft.irfft(spectrum * 0.5, len(signal))


WORKLOADS = {
    "small arrays of 100 elements": small_arrays,
    "linear algebra of 300x300": linear_algebra,
    "elementwise, 4 M elements": elementwise,
    "FFT of 256 Ki elements": fourier,
}


def child(workload: str, side: str) -> None:
    """What one process does: print the least seconds, and the peak of its resident memory in KiB."""
    import time

    if side == "guarded":
        import memprot.guard

        memprot.guard.enable("numpy")
    work = WORKLOADS[workload]
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    if side == "guarded" and memprot.guard.report()["numpy"]["arrays"] == 0:
        raise RuntimeError("no array was guarded, so nothing was measured")
    peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    print(min(seconds), peak)


def measured(workload: str, side: str) -> tuple[float, int]:
    done = subprocess.run(
        [sys.executable, __file__, workload, side],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds, peak = done.stdout.split()
    return float(seconds), int(peak)


def rows() -> list[Row]:
    found = []
    for workload in WORKLOADS:
        pairs: list[tuple[float, float]] = []
        peaks: dict[str, int] = {}
        for pair in range(PAIRS):
            times: dict[str, float] = {}
            for side in ("guarded", "plain") if pair % 2 else ("plain", "guarded"):
                times[side], peak = measured(workload, side)
                peaks[side] = max(peak, peaks.get(side, 0))
            pairs.append((times["guarded"], times["plain"]))
        # A machine may change its speed between one pair and the next, seldom within one: the middle pair stands.
        guarded, plain = sorted(pairs, key=lambda pair: pair[0] / pair[1])[PAIRS // 2]
        memory = f"peak {peaks['guarded'] / 1024:.0f} MiB, plain {peaks['plain'] / 1024:.0f}"
        found.append(Row(f"NumPy guarded, {workload} ({memory})", guarded, plain, 1.10))
    return found


if __name__ == "__main__":
    if len(sys.argv) == 3:
        child(*sys.argv[1:])
    else:
        from measure import show

        show(rows())
