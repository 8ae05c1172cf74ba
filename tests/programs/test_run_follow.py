"""``memprot run --follow``: the programs that a program starts."""

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

pytest.importorskip("numpy")

CHILD = "import ctypes, numpy; a = numpy.zeros(10); ctypes.memset(a.ctypes.data, 0, 81)"
PARENT = f"import subprocess, sys; print(subprocess.run([sys.executable, '-c', {CHILD!r}]).returncode)"


def test_a_child_is_watched_and_names_itself(runner: "Runner") -> None:
    done = runner.watch("-c", PARENT, options=("--follow", "--on-fault", "log", "--error-exitcode", "9"))
    assert (done.status, done.stdout) == (0, "0\n")
    assert done.document["faults"] == []
    (path,) = runner.folder.glob("report.json.*")
    pid = path.suffix[1:]
    child = json.loads(path.read_text())
    assert [fault["kind"] for fault in child["faults"]] == ["overflow"]
    assert child["argv"] == ["-c", CHILD]
    assert f"memprot: in process {pid}, -c import ctypes" in done.stderr
    assert done.stderr.count("memprot: 1 fault. ") == 1


def test_a_child_without_faults_says_nothing(runner: "Runner") -> None:
    quiet = PARENT.replace(repr(CHILD), "'pass'")
    done = runner.watch("-c", quiet, options=("--follow",))
    assert done.stderr.count("memprot: ") == done.stderr.count("memprot: no faults. ") == 1


def test_children_are_on_their_own_without_it(runner: "Runner") -> None:
    done = runner.watch("-c", PARENT, options=("--on-fault", "log"))
    assert "in process" not in done.stderr
    assert not list(runner.folder.glob("report.json.*"))
