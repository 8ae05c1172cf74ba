"""``pytest --memprot`` beside others who run and report tests: xdist, JUnit, unittest, doctest, ``memprot run``."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]

HEAD = """
import unittest
import numpy, pytest, misbehave
from memprot import FaultError

def behind(array):
    misbehave.write(array.ctypes.data + array.nbytes, 1)
"""
SUITE = (
    HEAD
    + """
def test_first():
    pass

def test_behind():
    behind(numpy.zeros(10))

def test_both():
    try:
        behind(numpy.zeros(10))
    except FaultError:
        pass
    assert "one" == "two"

def test_caught():
    with pytest.raises(FaultError):
        behind(numpy.zeros(10))

@pytest.fixture
def bad():
    behind(numpy.zeros(10))

def test_error(bad):
    pass
"""
)
UNITTEST = (
    HEAD
    + """
class TestArrays(unittest.TestCase):
    def test_behind(self):
        behind(numpy.zeros(10))

    def test_caught(self):
        with self.assertRaises(FaultError):
            behind(numpy.zeros(10))

    def test_parts(self):
        for size in (3, 4):
            with self.subTest(size=size):
                if size == 3:
                    behind(numpy.zeros(size))

    def test_well(self):
        self.assertEqual(numpy.ones(3).sum(), 3)
"""
)


def test_workers_of_xdist_find_faults_and_the_controller_sums_up(run_pytest: Run) -> None:
    result = run_pytest(SUITE, "--memprot", "-n", "2", "--color=yes")
    result.assert_outcomes(passed=2, failed=2, errors=1)
    told = result.stdout.str()
    assert "\x1b[1;31mmemprot: write of 1 byte, 0 bytes past the end of `array`" in told
    both = told[told.index("__ test_both __") :]
    assert both.index("memory faults") < both.index("memprot: write of 1 byte")
    assert re.search(r"memprot: 3 faults in 3 tests; \d+ arrays guarded", told)
    assert "test_suite.py::test_caught: write of 1 byte" in told


def test_a_worker_that_a_fault_kills_tells_of_it_and_is_replaced(run_pytest: Run) -> None:
    result = run_pytest(SUITE + "\ndef test_dies():\n    misbehave.null_write()\n", "--memprot", "-n", "2")
    result.assert_outcomes(passed=2, failed=3, errors=1)
    assert "memprot: the process dies in test_suite.py::test_dies (call)" in result.stderr.str()
    assert re.search(r"memprot: the worker gw\d has died", result.stdout.str())


def test_junit_has_the_report_without_colours(run_pytest: Run, pytester: pytest.Pytester) -> None:
    run_pytest(SUITE, "--memprot", "--color=yes", "--junitxml=report.xml", "-p", "no:xdist")
    cases = {case.get("name"): case for case in ElementTree.parse(pytester.path / "report.xml").iter("testcase")}
    failure = cases["test_behind"].find("failure")
    assert failure is not None
    assert (failure.get("message") or "").startswith("FaultError: write of 1 byte, 0 bytes past the end of `array`")
    assert (failure.text or "").startswith("memprot: write of 1 byte, 0 bytes past the end of `array`")
    error = cases["test_error"].find("error")
    assert error is not None
    assert "past the end of `array`" in (error.text or "")
    assert "x1B" not in f"{failure.text}{error.text}"


def test_what_has_failed_of_a_fault_can_be_run_again_and_ends_a_session_that_stops(run_pytest: Run) -> None:
    run_pytest(SUITE, "--memprot", "-x").assert_outcomes(passed=1, failed=1)
    run_pytest(SUITE, "--memprot", "--last-failed").assert_outcomes(failed=1)


def test_cases_of_unittest_and_their_parts_fail_one_by_one(run_pytest: Run) -> None:
    result = run_pytest(UNITTEST, "--memprot")
    told = result.stdout.str()
    assert "memprot: 2 faults in 2 tests; " in told
    assert re.search(r"TestArrays.test_behind __+\nmemprot: write of 1 byte", told)
    assert re.search(r"TestArrays.test_parts\b.* __+\nmemprot: write of 1 byte", told)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_doctest_fails_of_its_fault(run_pytest: Run) -> None:
    code = HEAD + '\ndef documented():\n    """\n    >>> behind(numpy.zeros(10))\n    """\n'
    result = run_pytest(code, "--memprot", "--doctest-modules")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*memory faults*", "memprot: write of 1 byte, 0 bytes past the end of*"])


def test_unittest_under_memprot_run_fails_the_very_test(misbehave_path: Path, tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(UNITTEST)
    done = memprot_run(tmp_path, misbehave_path, (), "unittest", "-v", "test_suite")
    assert "FAILED (errors=2)" in done.stderr
    assert re.search(r"test_well .*\.\.\. ok", done.stderr)
    assert re.search(r"test_caught .*\.\.\. ", done.stderr)
    assert done.stderr.count("memprot: write of 1 byte, 0 bytes past the end of `array`") >= 1
    assert done.returncode == 1


def memprot_run(folder: Path, path: Path, options: tuple[str, ...], *program: str) -> subprocess.CompletedProcess[str]:
    """Run a module of Python's under memprot run."""
    command = [sys.executable, "-m", "memprot", "run", *options, "-m", *program]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(path)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_memprot_run_and_the_plugin_do_not_tell_twice(misbehave_path: Path, tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    arguments = ("pytest", "-W", "error", "-p", "no:cacheprovider", "--memprot")
    done = memprot_run(tmp_path, misbehave_path, ("--json", "report.json"), *arguments)
    assert "2 failed, 2 passed, 1 error" in done.stdout, done.stdout
    assert done.stdout.count("╰─ FaultError is raised in this thread") == 1
    assert "Captured stderr" not in done.stdout
    assert "memprot: 4 faults" in done.stderr
    assert '"count": ' in (tmp_path / "report.json").read_text()


def test_memprot_run_alone_leaves_pytest_to_itself(misbehave_path: Path, tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    arguments = ("pytest", "-W", "error", "-p", "no:cacheprovider")
    done = memprot_run(tmp_path, misbehave_path, (), *arguments)
    assert "2 failed, 2 passed, 1 error" in done.stdout, done.stdout
    assert "memprot: 4 faults" in done.stderr


def test_the_guards_of_memprot_run_stay_in_the_session_and_after_it(misbehave_path: Path, tmp_path: Path) -> None:
    code = HEAD + "\ndef test_before():\n    array = numpy.zeros(10)\n    misbehave.write(array.ctypes.data - 1, 1)\n"
    (tmp_path / "test_suite.py").write_text(code)
    done = memprot_run(tmp_path, misbehave_path, ("--side", "left"), "pytest", "-p", "no:cacheprovider", "--memprot")
    assert "1 byte before the start of `array`" in done.stdout
