"""What the options of ``memprot run`` do to a program whose C code leaves an array."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

pytest.importorskip("numpy")

PROGRAM = """
import numpy, sys
import misbehave

def overrun(array, distance=0):
    misbehave.write(array.ctypes.data + array.nbytes + distance, 1)

def underrun(array, distance=1):
    misbehave.write(array.ctypes.data - distance, 1)

array = numpy.zeros(13, dtype="uint8")
before = numpy.full(100, 7.0)
after = numpy.full(100, 7.0)
{body}
assert not array.any() and (before == 7).all() and (after == 7).all()
print("ended")
"""


@pytest.fixture
def environment(misbehave_path: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(misbehave_path)}


def test_raise_is_the_default_and_an_uncaught_fault_is_a_traceback(
    runner: "Runner", environment: dict[str, str]
) -> None:
    for options in ((), ("--on-fault", "raise")):
        done = runner.watch(
            runner.script(PROGRAM.format(body="overrun(array)")), options=options, environment=environment
        )
        assert (done.status, done.stdout) == (1, "")
        assert "Traceback (most recent call last):" in done.stderr
        assert "\nmemprot.FaultError: write of 1 byte" in done.stderr
        assert "FaultError is raised in this thread; no byte of the program's data was changed." in done.stderr
        assert (done.fault["distance"], done.fault["recovered"], done.fault["object"]["nbytes"]) == (0, True, 13)


def test_log_only_reports_and_the_program_goes_on(runner: "Runner", environment: dict[str, str]) -> None:
    done = runner.watch(
        runner.script(PROGRAM.format(body="overrun(array)\noverrun(before, 24)")),
        options=["--on-fault", "log"],
        environment=environment,
    )
    assert (done.status, done.stdout) == (0, "ended\n")
    assert done.stderr.count("The program goes on; no byte of the program's data was changed.") == 2
    assert [fault["distance"] for fault in done.document["faults"]] == [0, 24]
    assert all(fault["recovered"] for fault in done.document["faults"])
    assert [fault["object"]["dtype"] for fault in done.document["faults"]] == ["uint8", "float64"]


def test_abort_ends_the_program_by_the_signal(runner: "Runner", environment: dict[str, str]) -> None:
    done = runner.watch(
        runner.script(PROGRAM.format(body="overrun(array)")), options=["--on-fault", "abort"], environment=environment
    )
    assert (done.status, done.stdout) == (-signal.SIGSEGV, "")
    assert "The program dies of SIGSEGV, as --on-fault abort asks." in done.stderr
    assert (done.document["exit"], done.fault["kind"], done.fault["recovered"]) == (-11, "overflow", False)
    assert done.fault["object"]["allocated"]["line"] == 11
    assert done.fault["python"][0]["function"] == "overrun"


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_chosen_side_is_exact_to_the_byte(runner: "Runner", environment: dict[str, str], side: str) -> None:
    body = "for distance in range({0}):\n    try:\n        {1}\n    except Exception as error:\n"
    body += "        print(error.offset)"
    call = "overrun(array, distance)" if side == "right" else "underrun(array, distance + 1)"
    done = runner.watch(
        runner.script(PROGRAM.format(body=body.format(3, call))), options=["--side", side], environment=environment
    )
    assert done.status == 0
    offsets = ["13", "14", "15"] if side == "right" else ["-1", "-2", "-3"]
    assert done.stdout.split() == [*offsets, "ended"]
    assert {fault["kind"] for fault in done.document["faults"]} == {"overflow" if side == "right" else "underflow"}


@pytest.mark.parametrize(("body", "status"), [("overrun(array)", 7), ("overrun(array); sys.exit(3)", 3), ("", 0)])
def test_the_error_exit_code_is_for_programs_that_ended_well(
    runner: "Runner", environment: dict[str, str], body: str, status: int
) -> None:
    done = runner.watch(
        runner.script(PROGRAM.format(body=body)),
        options=["--on-fault", "log", "--error-exitcode", "7"],
        environment=environment,
    )
    assert (done.status, done.document["exit"]) == (status, status)


def test_a_fault_that_the_program_caught_counts_for_the_error_exit_code(
    runner: "Runner", environment: dict[str, str]
) -> None:
    body = "try:\n    overrun(array)\nexcept Exception:\n    pass"
    script = runner.script(PROGRAM.format(body=body))
    assert runner.watch(script, options=["--error-exitcode", "7"], environment=environment).status == 7
    assert runner.watch(script, environment=environment).status == 0


def test_quiet_prints_reports_and_no_summary(runner: "Runner", environment: dict[str, str]) -> None:
    quiet = ["--on-fault", "log", "--quiet"]
    calm = runner.watch(runner.script(PROGRAM.format(body="")), options=quiet, environment=environment)
    assert (calm.status, calm.stdout, calm.stderr) == (0, "ended\n", "")
    script = runner.script(PROGRAM.format(body="overrun(array)"))
    broken = runner.watch(script, options=quiet, environment=environment)
    first = "memprot: write of 1 byte, 0 bytes past the end of `array`: element 13 of 13, axis 0"
    assert broken.stderr.splitlines()[0] == first
    assert "NumPy arrays were guarded" not in broken.stderr
    loud = runner.watch(script, options=quiet[:2], environment=environment)
    assert loud.stderr.splitlines()[-1].startswith("memprot: 1 fault. ")


@pytest.mark.parametrize("on_fault", ["raise", "log"])
def test_a_loop_of_alike_overruns_is_one_report_with_a_count(
    runner: "Runner", environment: dict[str, str], on_fault: str
) -> None:
    body = (
        "for _ in range(1000):\n    try:\n        overrun(array)\n"
        "    except Exception as error:\n        assert type(error).__name__ == 'FaultError'"
    )
    done = runner.watch(
        runner.script(PROGRAM.format(body=body)), options=["--on-fault", on_fault], environment=environment
    )
    assert (done.status, done.stdout) == (0, "ended\n")
    assert done.fault["count"] == 1000
    assert done.stderr.count("past the end of `array`") == 1
    assert "memprot: 1,000 faults, all alike." in done.stderr


def test_overruns_of_two_lines_are_two_reports(runner: "Runner", environment: dict[str, str]) -> None:
    body = "def again():\n    misbehave.write(array.ctypes.data + 13, 1)\noverrun(array); again(); overrun(array)"
    done = runner.watch(
        runner.script(PROGRAM.format(body=body)), options=["--on-fault", "log"], environment=environment
    )
    assert [fault["count"] for fault in done.document["faults"]] == [2, 1]
    assert [fault["python"][0]["function"] for fault in done.document["faults"]] == ["overrun", "again"]


def test_a_long_overrun_in_one_call_is_one_fault(runner: "Runner", environment: dict[str, str]) -> None:
    body = "misbehave.set(array.ctypes.data + 13, 1, 40000)"
    done = runner.watch(
        runner.script(PROGRAM.format(body=body)), options=["--on-fault", "log"], environment=environment
    )
    assert (done.status, done.fault["count"], done.fault["distance"]) == (0, 1, 0)
