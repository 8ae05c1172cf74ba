"""In a container whose profile refuses system calls: the feature says so, and the rest works."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

FILTER = str(Path(__file__).parent / "under_seccomp.py")
REFUSED = "memfd_create,userfaultfd,guard_install,perf_event_open,process_vm_readv"

pytestmark = pytest.mark.parametrize("answer", ["EPERM", "EINVAL", "ENOSYS"])

SHARED = """
import os, sys
from memprot import FaultError, Region, catch_faults

with Region(3 * 4096, shared=True, name="ours") as region:
    region[:5] = b"hello"
    if os.fork() == 0:
        region[4096] = 7
        os._exit(0)
    os.wait()
    print(region[:5], region[4096])
    view = memoryview(region)
    region.protect("r--")
    if os.fork() == 0:  # it sees the protected bytes, never the blocked write
        os._exit(0 if region[0] == ord("h") else 1)
    try:
        with catch_faults():
            view[0] = 1
    except FaultError as fault:
        print(fault.access, fault.cause, fault.offset, os.wait()[1])
    try:
        region[1] = 1
    except FaultError as fault:
        print(fault.offset)
    print(region[:5])
    view.release()
"""

GUARDS = """
import ctypes
from memprot import FaultError, catch_faults, guarded

for side, offset in (("right", 13), ("left", -1)):
    block = guarded(13, side)
    try:
        with catch_faults():
            ctypes.memset(block.address + offset, 1, 1)
    except FaultError as fault:
        print(fault.cause, fault.offset, block[:] == bytes(13))
    block.close()
"""

ARRAYS = """
import numpy
import misbehave
from memprot import FaultError

arrays = [numpy.full(size, 3, dtype="uint8") for size in (1, 13, 4096, 5000, 300_000) for _ in range(20)]
caught = 0
for array in arrays:
    try:
        misbehave.write(array.ctypes.data + array.nbytes, 1)
    except FaultError:
        caught += 1
print(caught, all((array == 3).all() for array in arrays))
"""


def under_filter(runner: "Runner", answer: str, *arguments: str, calls: str = REFUSED, **environment: str) -> Any:
    return runner.run([sys.executable, FILTER, answer, calls, *arguments], environment=environment)


def test_shared_regions_work(runner: "Runner", answer: str) -> None:
    done = under_filter(runner, answer, "python", runner.script(SHARED))
    assert (done.status, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == ["b'hello' 7", "write protection 0 0", "1", "b'hello'"]


def test_guards_work(runner: "Runner", answer: str) -> None:
    done = under_filter(runner, answer, "python", runner.script(GUARDS))
    assert (done.status, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == ["guard 13 True", "guard -1 True"]


def test_arrays_are_guarded_and_their_faults_are_told(runner: "Runner", answer: str, misbehave_path: Path) -> None:
    pytest.importorskip("numpy")
    done = under_filter(
        runner, answer, "run", "--json", "report.json", runner.script(ARRAYS), PYTHONPATH=str(misbehave_path)
    )
    assert (done.status, done.stdout) == (0, b"100 True\n"), done.stderr
    faults = json.loads((runner.folder / "report.json").read_text())["faults"]
    assert sum(fault["count"] for fault in faults) == 100
    assert {(fault["kind"], fault["distance"]) for fault in faults} == {("overflow", 0)}
    assert b"could not" not in done.stderr


def test_a_death_is_told_whole(runner: "Runner", answer: str, misbehave_path: Path) -> None:
    script = runner.script("import misbehave\nmisbehave.null_write()\n")
    done = under_filter(runner, answer, "run", "--json", "report.json", script, PYTHONPATH=str(misbehave_path))
    assert done.status == -11
    assert b"registers" in done.stderr
    document = json.loads((runner.folder / "report.json").read_text())
    assert (document["exit"], document["faults"][0]["kind"]) == (-11, "unmapped")


def test_the_doctor_tells_what_is_refused(runner: "Runner", answer: str) -> None:
    done = under_filter(runner, answer, "doctor", "--json", calls="memfd_create,userfaultfd")
    found = {feature["name"]: feature["available"] for feature in json.loads(done.stdout)["features"]}
    assert not any(available for name, available in found.items() if "memfd" in name and name != "memfd_secret")
