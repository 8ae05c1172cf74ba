"""Where /proc is not mounted, or no descriptor is left to read it with, faults are recovered and told."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

pytest.importorskip("numpy")

HIDE_PROC = ("unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh")

PROGRAM = """
import os, sys
import numpy
import misbehave
from memprot import FaultError, Region, catch_faults

array = numpy.zeros(100)
region = Region(4096)
view = memoryview(region)
region.protect("r--")
{before}
try:
    misbehave.write(array.ctypes.data + array.nbytes, 1)
except FaultError as error:
    caught = [error.offset]
try:
    with catch_faults():
        view[7] = 1
except FaultError as error:
    caught.append(error.offset)
{after}
print(caught, region[7], flush=True)
{last}
"""
USE_ALL_DESCRIPTORS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
"""


def can_hide_proc() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*HIDE_PROC, "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def environment(misbehave_path: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(misbehave_path)}


def hidden(runner: "Runner", environment: dict[str, str], last: str) -> Any:
    if not can_hide_proc():
        pytest.skip("this user may not mount anything, not even in a namespace of its own")
    script = runner.script(PROGRAM.format(before="", after="", last=last))
    return runner.run([*HIDE_PROC, sys.executable, "-m", "memprot", "run", script], environment=environment)


def test_faults_are_recovered_without_proc(runner: "Runner", environment: dict[str, str]) -> None:
    done = hidden(runner, environment, "")
    assert (done.status, done.stdout) == (0, b"[800, 7] 0\n"), done.stderr
    assert b"write of 1 byte, 0 bytes past the end of `array`" in done.stderr


def test_the_mappings_of_no_proc_are_an_error_that_says_so(runner: "Runner", environment: dict[str, str]) -> None:
    done = hidden(runner, environment, "import memprot\nmemprot.AddressSpace()")
    assert b"FileNotFoundError: [Errno 2] there is no /proc/self/maps; is /proc mounted?" in done.stderr


def test_a_death_is_told_without_proc(runner: "Runner", environment: dict[str, str]) -> None:
    done = hidden(runner, environment, "misbehave.null_write()")
    assert done.status == -11
    assert b"memprot: write of 1 byte at 0x0, where nothing is mapped" in done.stderr
    assert b"registers" in done.stderr


def test_faults_are_recovered_when_no_descriptor_is_left(runner: "Runner", environment: dict[str, str]) -> None:
    after = "for descriptor in taken: os.close(descriptor)"
    script = runner.script(PROGRAM.format(before=USE_ALL_DESCRIPTORS, after=after, last=""))
    done = runner.watch(script, environment=environment)
    assert (done.status, done.stdout) == (0, "[800, 7] 0\n"), done.stderr
    assert [fault["kind"] for fault in done.document["faults"]] == ["overflow", "protection"]


def test_a_death_is_told_when_no_descriptor_is_left(runner: "Runner", environment: dict[str, str]) -> None:
    script = runner.script(PROGRAM.format(before="", after=USE_ALL_DESCRIPTORS, last="misbehave.null_write()"))
    done = runner.watch(script, environment=environment)
    assert (done.status, done.document["exit"]) == (-11, -11)
    assert "write of 1 byte at 0x0" in done.stderr
