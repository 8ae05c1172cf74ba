"""A whole program and a whole test suite with everything guarded, beside what else finds such errors.

The program is C++ that lives on malloc: plain, guarded, built with AddressSanitizer, and under valgrind's memcheck,
where that is installed. The suite is that of numpy.linalg. Seconds are of the processor, children included; the peak
of resident memory is part of the price and stands beside them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Row

HERE = Path(__file__).parent
PAIRS = 3
MEMPROT = [sys.executable, "-m", "memprot", "run", "--quiet"]
SUITE = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--pyargs", "numpy.linalg"]

Spent = tuple[float, float]


def spent(command: list[str]) -> Spent:
    """Seconds of the processor, and MiB at the peak."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}, so what it took says nothing")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def row(what: str, ours: list[str], theirs: list[str], target: float | None, *, faster: bool = False) -> Row:
    pairs = [(spent(ours), spent(theirs)) for _ in range(PAIRS)]
    (seconds, peak), (their_seconds, their_peak) = sorted(pairs, key=lambda pair: pair[0][0] / pair[1][0])[PAIRS // 2]
    memory = f"peak {peak:.0f} MiB, theirs {their_peak:.0f}"
    return Row(f"{what} ({memory})", seconds, their_seconds, target, faster=faster)


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        plain, sanitized = f"{folder}/plain", f"{folder}/sanitized"
        for program, options in ((plain, []), (sanitized, ["-fsanitize=address"])):
            build = ["c++", "-O2", "-std=c++17", *options, "-o", program, str(HERE / "malloc_heavy.cpp")]
            subprocess.run(build, check=True)
        guarded = [*MEMPROT, "--", plain]
        found = [
            row("trees and maps in C++, every block guarded, and plain", guarded, [plain], None),
            row("trees and maps in C++, every block guarded, and AddressSanitizer", guarded, [sanitized], None),
        ]
        valgrind = shutil.which("valgrind")
        if valgrind is not None:
            what = "trees and maps in C++, every block guarded, and valgrind's memcheck"
            found.append(row(what, guarded, [valgrind, "--quiet", plain], None, faster=True))
    for guards, target in (("numpy", 1.10), ("all", 2.0)):
        what = f"the tests of numpy.linalg, guarded: {guards}, and plain"
        command = [*MEMPROT, "--align", "16", "--guard", guards, *SUITE]
        found.append(row(what, command, [sys.executable, *SUITE], target))
    return found


if __name__ == "__main__":
    from measure import show

    show(rows())
