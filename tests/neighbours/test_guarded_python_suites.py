"""CPython's own tests of its containers, with all of Python's memory guarded: every test ends as it does without."""

import json
import os
import subprocess
import sys
import sysconfig
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("run_suite.py")
# `make neighbours` sets it: the others take a minute.
ALL = os.environ.get("MEMPROT_NEIGHBOURS") == "1"
SUITES = ("test_list", "test_dict", "test_bytes", "test_array", "test_memoryview", "test_unicode", "test_gc")
SIDES = ("right", "left") if ALL else ("right",)
TARGETS = "raw" if sysconfig.get_config_var("Py_GIL_DISABLED") else "raw,mem,obj"

pytestmark = pytest.mark.skipif(
    find_spec("test.test_list") is None, reason="this Python was installed without its tests"
)


def outcomes(folder: Path, suite: str, *under: str) -> dict[str, str]:
    """What became of each test of a module."""
    file = folder / "outcomes.json"
    file.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, *under, RUNNER, file, suite],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
    )
    assert file.exists(), (done.returncode, done.stdout[-2000:], done.stderr[-4000:])
    if under:
        assert "memprot: no faults." in done.stderr
    result: dict[str, str] = json.loads(file.read_text())
    return result


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("suite", SUITES if ALL else SUITES[:1])
def test_every_test_has_the_outcome_it_has_without_guards(tmp_path: Path, suite: str, side: str) -> None:
    expected = outcomes(tmp_path, suite)
    assert Counter(expected.values())["passed"] > 20
    found = outcomes(tmp_path, suite, "-m", "memprot", "run", "--guard", TARGETS, "--side", side)
    print(suite, "without:", dict(Counter(expected.values())), "with:", dict(Counter(found.values())))
    assert found == expected
