"""``pytest --memprot``: which report a fault fails, with what text."""

import re
from collections.abc import Callable

import pytest

pytest_plugins = ["pytester"]

Outcome = Callable[..., pytest.RunResult]

HEAD = """
import threading
import numpy, pytest, misbehave
from memprot import FaultError

def behind(array, gil=True):
    misbehave.write(array.ctypes.data + array.nbytes, 1, gil=gil)

def before(array):
    misbehave.write(array.ctypes.data - 1, 1)
"""


@pytest.fixture
def memprot_pytest(run_pytest: Outcome) -> Outcome:
    """Run pytest --memprot on a file of tests in a process of its own."""
    return lambda code, *arguments: run_pytest(HEAD + code, "--memprot", "-p", "no:xdist", *arguments)


def section(result: pytest.RunResult, title: str) -> str:
    """What pytest printed under a heading."""
    heading = rf"^_+ {re.escape(title)} _+\n(.*?)(?=^(__+|==+) |\Z)"
    found = re.search(heading, result.stdout.str(), re.DOTALL | re.MULTILINE)
    assert found is not None, result.stdout.str()
    return found[1]


def summary(result: pytest.RunResult) -> str:
    """The line in which memprot sums up."""
    return next(line for line in reversed(result.outlines) if line.startswith("memprot: "))


def test_both_sides_of_an_array_fail_their_tests_in_one_session_and_the_others_pass(memprot_pytest: Outcome) -> None:
    result = memprot_pytest(
        """
def test_first():
    assert numpy.arange(5).sum() == 10

def test_behind():
    out = numpy.zeros(10)
    behind(out)

@pytest.mark.memprot(side="left")
def test_before():
    out = numpy.zeros(10)
    before(out)

def test_behind_again():
    out = numpy.zeros(10)
    behind(out)

def test_last():
    assert numpy.ones(3).sum() == 3
"""
    )
    result.assert_outcomes(passed=2, failed=3)
    told = section(result, "test_behind")
    assert told.startswith("memprot: write of 1 byte, 0 bytes past the end of ")
    assert "called from test_behind, test_suite.py:1" in told
    assert "_pytest" not in told
    assert "1 byte before the start of" in section(result, "test_before")
    assert summary(result).startswith("memprot: 3 faults in 3 tests; ")


def test_a_fault_is_told_in_the_phase_it_came_in(memprot_pytest: Outcome) -> None:
    result = memprot_pytest(
        """
@pytest.fixture
def at_setup():
    behind(numpy.ones(3))

@pytest.fixture
def at_teardown():
    yield
    behind(numpy.ones(3))

@pytest.fixture(scope="module")
def at_the_end():
    yield
    behind(numpy.ones(5))

def test_setup(at_setup):
    pass

def test_teardown(at_teardown):
    pass

def test_last(at_the_end):
    pass
"""
    )
    result.assert_outcomes(passed=2, errors=3)
    assert "past the end" in section(result, "ERROR at setup of test_setup")
    assert "past the end" in section(result, "ERROR at teardown of test_teardown")
    assert "past the end" in section(result, "ERROR at teardown of test_last")


def test_a_fault_while_a_file_is_imported_is_an_error_of_its_collection(memprot_pytest: Outcome) -> None:
    result = memprot_pytest("array = numpy.ones(3)\nmisbehave.write_from_c_thread(array.ctypes.data + 24, 1)\n")
    result.assert_outcomes(errors=1)
    assert "memprot: write of 1 byte, 0 bytes past the end" in section(result, "ERROR collecting test_suite.py")
    assert result.ret == pytest.ExitCode.INTERRUPTED


def test_faults_of_other_threads_fail_the_test_they_came_in(memprot_pytest: Outcome) -> None:
    result = memprot_pytest(
        """
def test_of_python():
    array = numpy.zeros(10)
    thread = threading.Thread(target=behind, args=(array,), name="the-thread")
    thread.start()
    thread.join()

def test_of_c():
    array = numpy.zeros(10)
    misbehave.write_from_c_thread(array.ctypes.data + array.nbytes, 1)

def test_without_the_interpreter():
    behind(numpy.zeros(10), gil=False)

class Finalized:
    def __del__(self):
        behind(numpy.zeros(10))

def test_in_a_finalizer():
    Finalized()

def test_in_a_task():
    import asyncio
    async def run():
        behind(numpy.zeros(10))
        await asyncio.sleep(0)
    asyncio.run(run())

def test_last():
    pass
"""
    )
    result.assert_outcomes(passed=1, failed=5)
    assert "thread    the-thread" in section(result, "test_of_python")


def test_what_a_test_catches_does_not_fail_it_and_is_counted(memprot_pytest: Outcome) -> None:
    result = memprot_pytest(
        """
def test_raises():
    with pytest.raises(FaultError):
        behind(numpy.zeros(10))

@pytest.mark.xfail(raises=FaultError, strict=True)
def test_expected():
    behind(numpy.zeros(10))

@pytest.mark.memprot(policy="log")
def test_logged():
    behind(numpy.zeros(10))
"""
    )
    result.assert_outcomes(passed=2, xfailed=1)
    result.stdout.fnmatch_lines(
        ["memprot: 3 faults failed no test*", "  test_suite.py::test_raises: write of 1 byte, 0 bytes past the end of*"]
    )
    assert summary(result).startswith("memprot: no faults; ")


def test_a_test_that_fails_for_a_reason_of_its_own_shows_both(memprot_pytest: Outcome) -> None:
    result = memprot_pytest(
        """
def test_caught_and_wrong():
    try:
        behind(numpy.zeros(10))
    except FaultError:
        pass
    assert "one" == "two"

def test_wrong_and_late():
    array = numpy.zeros(10)
    misbehave.write_from_c_thread(array.ctypes.data + array.nbytes, 1)
    assert "one" == "two"
"""
    )
    result.assert_outcomes(failed=2)
    for name in ("test_caught_and_wrong", "test_wrong_and_late"):
        told = section(result, name)
        assert told.index("AssertionError") < told.index("memprot: write of 1 byte"), told


def test_the_same_fault_in_many_tests_is_told_once_and_then_by_a_reference(memprot_pytest: Outcome) -> None:
    result = memprot_pytest(
        """
@pytest.mark.parametrize("size", [3, 4, 5])
def test_sizes(size):
    behind(numpy.zeros(size))
"""
    )
    result.assert_outcomes(failed=3)
    assert "native " in section(result, "test_sizes[3]")
    for size in (4, 5):
        told = section(result, f"test_sizes[{size}]")
        assert "The same as in test_suite.py::test_sizes[3], told there." in told
        assert "called from test_sizes, test_suite.py:" in told
        assert "native " not in told
    assert summary(result).startswith("memprot: 3 faults in 3 tests; ")


def test_the_report_is_in_colour_where_pytest_writes_in_colour(memprot_pytest: Outcome) -> None:
    code = "def test_it():\n    behind(numpy.zeros(3))\n"
    assert "\x1b[1;31mmemprot: write of 1 byte" in memprot_pytest(code, "--color=yes").stdout.str()
    assert "\x1b" not in memprot_pytest(code, "--color=no").stdout.str()


@pytest.mark.parametrize("capture", ["fd", "sys", "no"])
def test_a_fault_that_kills_names_the_test_whatever_is_captured(memprot_pytest: Outcome, capture: str) -> None:
    result = memprot_pytest("def test_dies():\n    misbehave.null_write()\n", f"--capture={capture}")
    assert result.ret == -11
    told = result.stderr.str()
    assert told.index("memprot: the process dies in test_suite.py::test_dies (call)") < told.index(
        "memprot: write of 1 byte at 0x0, where nothing is mapped"
    )
    assert "Fatal Python error: Segmentation fault" in told


def test_a_fault_in_an_object_is_reported_with_its_test_and_kills(run_pytest: Outcome) -> None:
    code = """
import sys
import misbehave

def test_object():
    text = "a" * 200 + str(len(sys.argv))
    misbehave.write(id(text) + sys.getsizeof(text) + 16, 1)
"""
    result = run_pytest(code, "--memprot=obj", "-p", "no:xdist", "-p", "no:faulthandler")
    assert result.ret == -11
    told = result.stderr.str()
    assert "memprot: the process dies in test_suite.py::test_object (call)" in told
    assert "past the end of a block of" in told
