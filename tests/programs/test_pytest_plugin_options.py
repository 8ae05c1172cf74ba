"""``pytest --memprot``: options, markers, and that a session without it is as if memprot were not installed."""

from collections.abc import Callable

import pytest

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]

SUITE = """
import numpy, pytest, misbehave

def test_behind():
    array = numpy.zeros(10)
    misbehave.write(array.ctypes.data + array.nbytes, 1)

def test_before():
    array = numpy.zeros(10)
    misbehave.write(array.ctypes.data - 1, 1)

def test_neither():
    assert numpy.ones(3).sum() == 3
"""


def test_a_file_of_suppressions_keeps_known_faults_from_being_told(run_pytest: Run, pytester: pytest.Pytester) -> None:
    words = "suppression: known\n    kind: overflow\n    ...\n    function: test_behind\n"
    pytester.makefile(".supp", known=words)
    result = run_pytest(SUITE, "--memprot", "--memprot-suppressions=known.supp", "-k", "not before")
    result.assert_outcomes(passed=2, deselected=1)
    result.stdout.fnmatch_lines(["memprot: 1 fault was suppressed: 1 by 'known' (*known.supp:1)"])
    refused = run_pytest(SUITE, "--memprot", "--memprot-suppressions=unknown.supp")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert "unknown.supp" in refused.stderr.str()


INERT = """
import signal, sys

def test_nothing_is_there():
    assert [name for name in sys.modules if name.split(".")[0] == "memprot"] == []
    assert signal.getsignal(signal.SIGSEGV) == signal.SIG_DFL
    with open("/proc/self/status") as file:
        caught = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt:"))
    assert not caught & (1 << signal.SIGSEGV - 1 | 1 << signal.SIGBUS - 1)
"""


@pytest.mark.parametrize("arguments", [(), ("-p", "memprot"), ("--memprot=none",)], ids=" ".join)
def test_without_the_option_nothing_of_memprot_is_loaded(run_pytest: Run, arguments: tuple[str, ...]) -> None:
    result = run_pytest(INERT, "-p", "no:faulthandler", *arguments)
    result.assert_outcomes(passed=1)
    assert "memprot:" not in result.stdout.str()


def test_it_can_be_named_where_no_plugin_is_loaded_by_itself(run_pytest: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    run_pytest(SUITE, "-p", "memprot", "--memprot", "-k", "not before").assert_outcomes(
        passed=1, failed=1, deselected=1
    )


def test_it_can_be_kept_away(run_pytest: Run) -> None:
    assert run_pytest(SUITE, "-p", "no:memprot", "--memprot").ret == pytest.ExitCode.USAGE_ERROR
    run_pytest(INERT, "-p", "no:memprot", "-p", "no:faulthandler").assert_outcomes(passed=1)


def test_the_option_alone_leaves_what_follows_to_pytest(run_pytest: Run) -> None:
    run_pytest(SUITE, "--memprot", "test_suite.py::test_behind").assert_outcomes(failed=1)
    run_pytest(SUITE, "--memprot=none", "--memprot", "test_suite.py").assert_outcomes(failed=1, passed=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--memprot", "--memprot-side", "left"),
        ("-o", "memprot=numpy", "-o", "memprot_side=left"),
        ("--memprot=numpy,raw", "--memprot-side=left", "-o", "memprot_side=right"),
    ],
    ids=" ".join,
)
def test_options_and_the_ini_file_say_what_is_guarded_and_how(run_pytest: Run, arguments: tuple[str, ...]) -> None:
    result = run_pytest(SUITE, "-k", "not behind", *arguments)
    result.assert_outcomes(passed=1, failed=1, deselected=1)
    assert "1 byte before the start of" in result.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--memprot=heap",), "nothing called 'heap' can be guarded; choose from numpy, raw, mem, obj, malloc"),
        (("--memprot=numpy,",), "nothing called '' can be guarded; choose from"),
        (("--memprot", "--memprot-side=up"), "side must be one of 'right', 'left', 'random', 'turns', not 'up'"),
        (("--memprot", "--memprot-sample=-1"), "sample must be a whole number, not '-1'"),
        (("--memprot", "--memprot-align=3"), "align must be a power of two from 1 to the page size"),
        (("--memprot", "--memprot-quarantine=many"), "'many' is no amount of memory; write bytes"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_told_before_anything_runs(
    run_pytest: Run, arguments: tuple[str, ...], words: str
) -> None:
    result = run_pytest(SUITE, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line]
    assert line.startswith("ERROR: --memprot: ")
    assert words in line


def test_without_numpy_one_line_says_so_and_the_tests_run(run_pytest: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys\nsys.modules['numpy'] = None")
    result = run_pytest("def test_it():\n    pass\n", "--memprot")
    result.assert_outcomes(passed=1)
    said = [line for line in result.outlines if line.startswith("memprot: ")]
    assert said == [
        "memprot: NumPy is not installed, so there are no arrays to guard",
        "memprot: no faults; nothing guarded",
    ]


def test_numpy_is_not_imported_for_tests_that_do_not(run_pytest: Run) -> None:
    code = "import sys\ndef test_it():\n    assert 'numpy' not in sys.modules\n"
    run_pytest(code, "--memprot").assert_outcomes(passed=1)


MARKED = """
import memprot, numpy, pytest, misbehave
from memprot import FaultError

def behind(array):
    misbehave.write(array.ctypes.data + array.nbytes, 1)

def before(array):
    misbehave.write(array.ctypes.data - 1, 1)

@pytest.mark.no_memprot
class TestOff:
    def test_nothing_new_is_guarded(self):
        before = memprot.guard.report()["numpy"]["arrays"]
        numpy.zeros(10)
        assert memprot.guard.report()["numpy"]["arrays"] == before

    @pytest.mark.memprot(side="left")
    def test_the_nearer_marker_counts(self):
        with pytest.raises(FaultError, match="before the start"):
            before(numpy.zeros(10))

guarded = numpy.zeros(10)

@pytest.mark.no_memprot
def test_no_fault_is_a_failure():
    behind(guarded)

@pytest.mark.memprot(policy="discard")
def test_by_policy():
    behind(guarded)

@pytest.mark.memprot(guard="raw,mem", sample=3)
def test_another_guard():
    before = memprot.guard.report()["numpy"]["arrays"]
    numpy.zeros(10)
    assert memprot.guard.report()["numpy"]["arrays"] == before
    assert memprot.guard.report()["raw"]["blocks"] >= 0

def test_the_session_is_as_before():
    with pytest.raises(FaultError, match="past the end"):
        behind(numpy.zeros(10))
"""


def test_markers_say_how_one_test_is_guarded(run_pytest: Run) -> None:
    run_pytest(f"import memprot.guard\n{MARKED}", "--memprot").assert_outcomes(passed=6)


def test_markers_on_modules_count_for_all_their_tests(run_pytest: Run) -> None:
    result = run_pytest(f"{SUITE}\npytestmark = pytest.mark.memprot(side='left')\n", "--memprot", "-k", "not behind")
    result.assert_outcomes(passed=1, failed=1, deselected=1)
    run_pytest(f"{SUITE}\npytestmark = pytest.mark.no_memprot\n", "--memprot", "-k", "neither").assert_outcomes(
        passed=1, deselected=2
    )


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("memprot(guard='heap')", "nothing called 'heap' can be guarded"),
        ("memprot(sides='left')", "it takes only guard=, side=, sample=, align=, policy=, and was given sides="),
        ("memprot('numpy')", "was given 'numpy'"),
        ("memprot(side='up')", "side must be one of"),
        ("memprot(policy='never')", "never"),
        ("no_memprot(True)", "it takes no arguments, and was given True"),
    ],
)
def test_a_marker_that_cannot_be_meant_is_told_before_anything_runs(run_pytest: Run, marker: str, words: str) -> None:
    result = run_pytest(f"import pytest\n@pytest.mark.{marker}\ndef test_it():\n    pass\n", "--memprot")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = result.stderr.str()
    assert "test_suite.py::test_it: the marker " in said
    assert words in said
