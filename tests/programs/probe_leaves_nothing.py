"""Probe twice, and print what of the process's state the second time changed."""

import json
import os
import signal
import threading
from pathlib import Path

from memprot import _native

REPORTED = ("SigBlk", "SigIgn", "SigCgt", "Threads", "Seccomp", "NoNewPrivs")
sigchld_seen = 0


def count_sigchld(*_: object) -> None:
    global sigchld_seen
    sigchld_seen += 1


def lines_of(name: str) -> list[str]:
    return Path("/proc/self", name).read_text().splitlines()


def state() -> dict[str, object]:
    status = dict(line.split(":\t", 1) for line in lines_of("status"))
    return {
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "mappings": [line for line in lines_of("maps") if "[heap]" not in line],
        "limits": lines_of("limits"),
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "threads": threading.active_count(),
        "sigchld": sigchld_seen,
        **{key: status[key] for key in REPORTED},
    }


signal.signal(signal.SIGCHLD, count_sigchld)
_native.try_features()
state()
before = state()
_native.try_features()
after = state()
try:
    os.waitpid(-1, os.WNOHANG)
    children = "left"
except ChildProcessError:
    children = "none"
changed = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
print(json.dumps({"changed": changed, "children": children, "sigchld": sigchld_seen}))
