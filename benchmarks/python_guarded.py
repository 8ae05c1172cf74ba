"""Pure Python with its own memory guarded, against Python without guards; no figure is promised.

Each side runs in a process of its own, because blocks keep the allocator they came from, and the sides take turns. A
process warms up and then gives the least of several times, in seconds of its processor. The peak of resident memory
stands beside the times.
"""

import subprocess
import sys
from pathlib import Path

from measure import Row

PAIRS = 5
REPEATS = 7

SIDES = {
    "raw and mem guarded": ("raw", "mem"),
    "raw, mem and obj guarded": ("raw", "mem", "obj"),
    "raw, mem and obj guarded, one of 100": ("raw", "mem", "obj", "100"),
}


def work() -> None:
    import array
    import collections
    import json
    import re

    for _ in range(20):
        rows = [{"id": number, "name": str(number) * 3, "values": [number] * 5} for number in range(300)]
        text = json.dumps(rows)
        json.loads(text)
        collections.Counter(re.findall("[0-9]", text))
        data = bytearray()
        for number in range(2000):
            data.append(number & 255)
        sum(array.array("d", range(2000)))


def child(*guards: str) -> None:
    """What one process does: print the least seconds, and the peak of its resident memory in KiB."""
    import time

    import memprot.guard

    sample = int(guards[-1]) if guards and guards[-1].isdecimal() else 1
    for target in ("raw", "mem", "obj"):
        if target in guards:
            memprot.guard.enable(target, sample=sample)
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    print(min(seconds), peak)


def measured(*guards: str) -> tuple[float, int]:
    command = [sys.executable, __file__, "child", *guards]
    seconds, peak = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return float(seconds), int(peak)


def rows() -> list[Row]:
    found = []
    for name, guards in SIDES.items():
        pairs = [(measured(*guards), measured()) for _ in range(PAIRS)]
        # A machine may change its speed between one pair and the next, seldom within one: the middle pair stands.
        guarded, plain = sorted(pairs, key=lambda pair: pair[0][0] / pair[1][0])[PAIRS // 2]
        memory = f"peak {guarded[1] / 1024:.0f} MiB, plain {plain[1] / 1024:.0f}"
        found.append(Row(f"Python with {name} ({memory})", guarded[0], plain[0], None))
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:])
    else:
        from measure import show

        show(rows())
