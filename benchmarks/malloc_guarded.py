"""malloc with each block guarded, or one in 1,000, against the C library's, Electric Fence's and DUMA's.

The other two come from Debian's packages electric-fence and duma; where they are not installed their rows are left
out. Each side is a process of its own, and both take turns.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from measure import Row

from memprot.run import preload

HERE = Path(__file__).parent
PAIRS = 5
# Theirs look through all blocks there ever were, and end the process when there are too many.
ROUNDS, THEIR_ROUNDS = 400_000, 1_000
OTHERS = {"Electric Fence": "/usr/lib/libefence.so.0.0", "DUMA": "/usr/lib/libduma.so.0.0.0"}


def seconds(command: list[str], environment: dict[str, str]) -> float:
    done = subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    return float(done.stdout.split()[-1]) * 1e-9


def guarded(words: str) -> dict[str, str]:
    return {**preload.environment({}), preload.WORDS: words}


def middle(ours: tuple[list[str], dict[str, str]], theirs: tuple[list[str], dict[str, str]]) -> tuple[float, float]:
    """The middle one of several pairs."""
    pairs = [(seconds(*ours), seconds(*theirs)) for _ in range(PAIRS)]
    return sorted(pairs, key=lambda pair: pair[0] / pair[1])[PAIRS // 2]


def rows() -> list[Row]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        loop, heavy = f"{folder}/loop", f"{folder}/heavy"
        subprocess.run(["cc", "-O2", "-fno-builtin", "-o", loop, str(HERE / "malloc_guarded.c")], check=True)
        subprocess.run(["c++", "-O2", "-std=c++17", "-o", heavy, str(HERE / "malloc_heavy.cpp")], check=True)
        many, few = [loop, "4096", str(ROUNDS)], [loop, "4096", str(THEIR_ROUNDS)]
        each = guarded("sample=1")
        found.append(Row("malloc and free of 4 KiB, guarded, and glibc's", *middle((many, each), (many, {})), 10))
        for name, library in OTHERS.items():
            if os.path.exists(library):
                what = f"malloc and free of 4 KiB, guarded, and {name}'s"
                found.append(Row(what, *middle((many, each), (few, {"LD_PRELOAD": library})), 50, faster=True))
        sampled = middle(([heavy], guarded("sample=1000")), ([heavy], {}))
        found.append(Row("trees and maps in C++, one block of 1,000 guarded, and plain", *sampled, 1.02))
    return found


if __name__ == "__main__":
    from measure import show

    show(rows())
