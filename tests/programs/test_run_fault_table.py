"""The table of distinct faults at the end of a run."""

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

pytest.importorskip("numpy")

RUN = (sys.executable, "-m", "memprot", "run", "--on-fault", "log")

PROGRAM = """
import numpy
array = numpy.zeros(10)
view = numpy.lib.stride_tricks.as_strided(array, (12,))
view.sum()
for i in range(1200):
    view[10] = 1
    array[0] = i
"""


def test_distinct_faults_are_listed_the_most_frequent_first(runner: "Runner") -> None:
    done = runner.run([*RUN, runner.script(PROGRAM)])
    header, often, once = done.stderr.decode().splitlines()[-3:]
    assert header.split() == ["count", "kind", "access", "where", "in"]
    assert often.split()[:4] == ["1,200", "overflow", "write", "app.py:7"]
    assert once.split()[:4] == ["1", "overflow", "read", "app.py:5"]
    assert header.index("where") == often.index("app.py") == once.index("app.py")


def test_one_fault_however_often_needs_no_table_and_quiet_has_none(runner: "Runner") -> None:
    one = runner.run([*RUN, runner.script(PROGRAM.replace("view.sum()", ""))]).stderr.decode()
    assert "1,200 faults, all alike." in one.splitlines()[-1]
    assert b"count  kind" not in runner.run([*RUN, "--quiet", runner.script(PROGRAM)]).stderr


def test_writes_are_red_and_reads_yellow_where_colours_are_wanted(runner: "Runner") -> None:
    wanted = {"FORCE_COLOR": "1"}
    often, once = runner.run([*RUN, runner.script(PROGRAM)], environment=wanted).stderr.decode().splitlines()[-2:]
    assert "\x1b[31moverflow  write" in often
    assert "\x1b[33moverflow  read" in once
    plain = runner.run([*RUN, "app.py"], environment={**wanted, "NO_COLOR": "1"}).stderr
    assert b"\x1b" not in plain
    assert b"overflow  write" in plain
