"""What the kernel does beyond an array for the program: no signal tells, and the report does."""

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

PROGRAM = """
import ctypes, numpy, os
array = numpy.zeros(1000, "u1")
beyond = (ctypes.c_char * 2000).from_address(array.ctypes.data)
zeros = os.open("/dev/zero", os.O_RDONLY)
print(os.readv(zeros, [beyond]))
"""


@pytest.mark.parametrize("on_fault", ["log", "raise"])
def test_a_call_that_reads_beyond_an_array_is_reported_with_its_name(runner: "Runner", on_fault: str) -> None:
    script = runner.script(PROGRAM)
    run = [sys.executable, "-m", "memprot", "run", "--on-fault", on_fault, "--json", "report.json", script]
    done = runner.run(run)
    report = done.stderr.decode()
    assert "write of 1,000 bytes, 0 bytes past the end of `array`" in report
    assert "calls readv, which had moved 1,000 bytes before" in report
    (fault,) = json.loads((runner.folder / "report.json").read_text())["faults"]
    assert fault["call"] == {"function": "readv", "transferred": 1000}
    assert (fault["signal"], fault["access"], fault["size"], fault["distance"]) == (None, "write", 1000, 0)
    if on_fault == "log":
        assert (done.status, done.stdout) == (0, b"1000\n")
    else:
        assert (done.status, done.stdout) == (1, b"")
        assert "memprot.FaultError: write of 1000 bytes" in report
    assert os.path.basename(script) in report
