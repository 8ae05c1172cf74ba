"""NumPy's own tests of its arrays give the same results with every array guarded.

Each array then ends at its guard to the byte, so an array of 9 bytes starts at an odd address. NumPy allows for
that; a few of its tests are about how malloc happens to align, and cannot hold on the right side.
"""

import json
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("numpy")
MODULE = "numpy._core.tests.test_multiarray" if find_spec("numpy._core") else "numpy.core.tests.test_multiarray"
for needed in ("hypothesis", MODULE):
    if find_spec(needed) is None:
        pytest.skip(f"NumPy's tests need {needed}", allow_module_level=True)

# They allocate 16 GiB each, and take longer than all others together.
HUGE = "huge_vectordot"
ABOUT_THE_ALIGNMENT_OF_MALLOC = {"test_no_dgemv", "test_uintalignment_and_alignment", "test_writeable_pickle"}


def outcomes(folder: Path, chosen: str, *launch: str) -> tuple[Counter[str], set[str]]:
    """How many tests ended in each way, and the names of those that failed."""
    log = folder / "log.xml"
    command = [sys.executable, *launch, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={log}"]
    command += ["--pyargs", MODULE, "-k", chosen]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert log.exists(), done.stdout + done.stderr
    counts: Counter[str] = Counter()
    failed = set()
    for case in ElementTree.parse(log).iter("testcase"):
        ended = {child.tag for child in case} & {"failure", "error", "skipped"}
        counts[ended.pop() if ended else "passed"] += 1
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(str(case.get("name")).partition("[")[0])
    return counts, failed


def guarded_outcomes(folder: Path, chosen: str, side: str) -> tuple[Counter[str], set[str]]:
    result = outcomes(folder, chosen, "-m", "memprot", "run", "--side", side, "--json", "report.json")
    document = json.loads((folder / "report.json").read_text())
    assert document["faults"] == []
    assert document["guarded"]["numpy"]["arrays"] > 1000
    return result


def test_numpys_own_tests_end_as_without_guards(tmp_path: Path) -> None:
    plain, failed_anyway = outcomes(tmp_path, f"not {HUGE}")
    counts, failed = guarded_outcomes(tmp_path, f"not {HUGE}", "right")
    assert counts.total() == plain.total() > 10_000
    assert counts["skipped"] == plain["skipped"]
    assert failed_anyway <= failed <= failed_anyway | ABOUT_THE_ALIGNMENT_OF_MALLOC


def test_on_the_left_side_those_about_alignment_pass_as_well(tmp_path: Path) -> None:
    chosen = " or ".join(["TestMethods", "TestIO", "TestCreation", *sorted(ABOUT_THE_ALIGNMENT_OF_MALLOC)])
    counts, failed = guarded_outcomes(tmp_path, chosen, "left")
    assert counts["passed"] > 300
    assert failed == set()
