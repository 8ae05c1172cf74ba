"""The options of ``memprot run`` that say what is guarded and how, as the program's interpreter gets them."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from memprot.cli import run
from memprot.run import launch
from memprot.run.options import GUARDS, Options

RUN = [sys.executable, "-m", "memprot", "run"]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> "dict[str, Options]":
    """What would be launched; the process stays what it is."""
    seen: dict[str, Options] = {}
    monkeypatch.setattr(launch, "launch", lambda options, program: seen.update(options=options))
    return seen


def options(given: dict[str, Options], *arguments: str) -> Options:
    done = CliRunner().invoke(run.command, [*arguments, "app.py"])
    assert (done.exit_code, done.output) == (0, "")
    return given["options"]


def complaint(*arguments: str) -> str:
    done = subprocess.run([*RUN, *arguments, "-c", "print(1)"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr.splitlines()[-1]


def test_without_options_each_numpy_array_is_guarded_on_the_right(given: dict[str, Options]) -> None:
    plain = options(given)
    assert (plain.guard, plain.sample, plain.quarantine, plain.side, plain.align) == (("numpy",), 1, 0, "right", 0)
    assert not plain.follow


@pytest.mark.parametrize(
    ("text", "guards"),
    [
        ("raw", ("raw",)),
        ("obj,numpy", ("numpy", "obj")),
        ("mem, mem", ("mem",)),
        ("all", GUARDS),
        ("all,raw", GUARDS),
        ("none", ()),
    ],
)
def test_guards_are_a_list(given: dict[str, Options], text: str, guards: tuple[str, ...]) -> None:
    assert options(given, "--guard", text).guard == guards


def test_each_option_reaches_the_run(given: dict[str, Options]) -> None:
    seen = options(given, "--sample=1000", "--quarantine", "64MiB", "--side", "turns", "--align", "64", "--follow")
    assert (seen.sample, seen.quarantine, seen.side, seen.align, seen.follow) == (1000, 64 << 20, "turns", 64, True)


def test_thorough_turns_everything_on(given: dict[str, Options]) -> None:
    seen = options(given, "--thorough")
    assert (seen.guard, seen.side, seen.sample) == (GUARDS, "turns", 1)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < seen.quarantine <= min(256 << 20, memory // 8)


def test_what_is_given_beside_thorough_wins_wherever_it_stands(given: dict[str, Options]) -> None:
    for arguments in (
        ("--thorough", "--side", "right", "--guard", "mem"),
        ("--guard=mem", "--side=right", "--thorough"),
    ):
        seen = options(given, *arguments, "--quarantine", "0")
        assert (seen.guard, seen.side, seen.quarantine) == (("mem",), "right", 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--guard", "heap"),
            "nothing called 'heap' can be guarded; choose from numpy, raw, mem, obj, malloc, all, none.",
        ),
        (("--guard", ""), "nothing called '' can be guarded; choose from"),
        (("--guard", "none,raw"), "none stands alone, not in 'none,raw'."),
        (("--sample", "0"), "0 is not in the range 1<=x<=1000000000"),
        (("--sample", "-3"), "-3 is not in the range 1<=x<=1000000000"),
        (("--sample", "some"), "'some' is not a valid integer"),
        (("--quarantine", "64MB"), "'64MB' is no amount of memory; write bytes"),
        (("--quarantine", "-1"), "'-1' is no amount of memory; write bytes"),
        (("--quarantine", "4000TiB"), "4000TiB is more than this machine's memory"),
        (("--side", "up"), "'up' is not one of 'right', 'left', 'random', 'turns'"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_possible(arguments: tuple[str, ...], words: str) -> None:
    told = complaint(*arguments)
    assert arguments[0] in told
    assert words in told


def test_without_guards_the_program_runs_and_nothing_is_said_of_arrays() -> None:
    done = subprocess.run([*RUN, "--guard", "none", "-c", "print(6)"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "6\n", "memprot: no faults.\n")
