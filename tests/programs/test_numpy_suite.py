"""NumPy's own tests of its arrays, every array guarded, and every array one of a Region."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

# A part that allocates in every way there is and takes a few seconds; the whole file passes the same way.
PART = "TestFlags or TestMethods or TestResize or uintalignment"
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
SUITE = (*PYTEST, "--pyargs", "numpy._core.tests.test_multiarray", "-k", PART)
# Statements, and types derived from arrays.
STATEMENTS = (*PYTEST, "--pyargs", "numpy._core.tests.test_indexing", "numpy._core.tests.test_records")
# These assert that the allocator aligns better than the array's size does: an array that ends at its guard to the byte
# cannot. They are why --align exists.
COUNT_ON_ALIGNMENT = {"test_writeable_pickle", "test_no_dgemv", "test_uintalignment_and_alignment"}
# These assert that a view of a new array is a plain array, and that repr(3) gives back the very type.
KNOW_THE_TYPE = {"test_void_scalar_empty_tuple", "test_recarray_from_repr", "test_recarray_views"}


pytestmark = pytest.mark.skipif(
    find_spec("numpy._core.tests") is None, reason="this NumPy was installed without its tests"
)


def outcome(runner: "Runner", *command: str, suite: tuple[str, ...] = SUITE) -> tuple[int, set[str], int]:
    """The status, the tests that failed, and how many passed."""
    here = {"PYTHONPATH": str(Path(__file__).parent)}
    done = runner.run((sys.executable, *command, *suite), timeout=280, environment=here)
    failed = {name.decode() for name in re.findall(rb"^FAILED \S*::(\w+)", done.stdout, re.MULTILINE)}
    (passed,) = re.findall(rb"(\d+) passed", done.stdout)
    return done.status, failed, int(passed)


def test_statements_are_as_they_are_without_guards(runner: "Runner") -> None:
    plain = outcome(runner, suite=STATEMENTS)
    assert plain[:2] == (0, set())
    assert outcome(runner, "-m", "memprot", "run", "--quiet", "--align", "16", suite=STATEMENTS) == plain
    _, failed, passed = outcome(runner, suite=(*STATEMENTS, "-p", "region_arrays"))
    assert failed <= KNOW_THE_TYPE
    assert passed >= plain[2] - len(KNOW_THE_TYPE)


def test_every_test_passes_that_passes_without_guards(runner: "Runner") -> None:
    plain = outcome(runner)
    assert plain[:2] == (0, set())
    assert outcome(runner, "-m", "memprot", "run", "--quiet", "--align", "16") == plain
    _, failed, passed = outcome(runner, "-m", "memprot", "run", "--quiet")
    assert failed <= COUNT_ON_ALIGNMENT
    assert passed >= plain[2] - 12  # each of these for several types
