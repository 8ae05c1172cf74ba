"""NumPy's own tests of its arrays, every array guarded."""

import re
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

# A part that allocates in every way there is and takes a few seconds; the whole file passes the same way.
PART = "TestFlags or TestMethods or TestResize or uintalignment"
SUITE = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "numpy._core.tests.test_multiarray", "-k", PART)
# These assert that the allocator aligns better than the array's size does: an array that ends at its guard to the byte
# cannot. They are why --align exists.
COUNT_ON_ALIGNMENT = {"test_writeable_pickle", "test_no_dgemv", "test_uintalignment_and_alignment"}


pytestmark = pytest.mark.skipif(
    find_spec("numpy._core.tests") is None, reason="this NumPy was installed without its tests"
)


def outcome(runner: "Runner", *command: str) -> tuple[int, set[str], int]:
    """The status, the tests that failed, and how many passed."""
    done = runner.run((sys.executable, *command, *SUITE), timeout=280)
    failed = {name.decode() for name in re.findall(rb"^FAILED \S*::(\w+)", done.stdout, re.MULTILINE)}
    (passed,) = re.findall(rb"(\d+) passed", done.stdout)
    return done.status, failed, int(passed)


def test_every_test_passes_that_passes_without_guards(runner: "Runner") -> None:
    plain = outcome(runner)
    assert plain[:2] == (0, set())
    assert outcome(runner, "-m", "memprot", "run", "--quiet", "--align", "16") == plain
    _, failed, passed = outcome(runner, "-m", "memprot", "run", "--quiet")
    assert failed <= COUNT_ON_ALIGNMENT
    assert passed >= plain[2] - 12  # each of these for several types
