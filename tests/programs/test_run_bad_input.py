"""What ``memprot run`` makes of options, files and programs that are not as they should be."""

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from memprot.run.options import GUARDS

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

RUN = (sys.executable, "-m", "memprot", "run")

# Takes from this process, and from what it starts, the right to read files that their modes protect. Root has it.
WITHOUT_PRIVILEGE = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
libc = ctypes.CDLL(None)
if os.geteuid() == 0:
    assert libc.prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE) == libc.prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--guard", "heap"),
            "nothing called 'heap' can be guarded; choose from numpy, raw, mem, obj, malloc, all, none.",
        ),
        (("--guard", "numpy,"), "nothing called ''"),
        (("--guard", ""), "nothing called ''"),
        (("--guard", "none,numpy"), "none stands alone"),
        (("--sample", "0"), "--sample"),
        (("--sample", "-3"), "--sample"),
        (("--sample", "many"), "--sample"),
        (("--quarantine", "1000TiB"), "1000TiB is more than this machine's memory"),
        (("--quarantine", str(1 << 70)), "is more than this machine's memory"),
        (("--quarantine", "-1"), "'-1' is no amount of memory; write bytes, or a number with its unit"),
        (("--quarantine", "lots"), "'lots' is no amount of memory"),
        (("--side", "up"), "'up' is not one of"),
        (("--align", "24"), "24 is no power of two from 1 to the page size"),
        (("--align", "0"), "0 is no power of two"),
        (("--on-fault", "ignore"), "'ignore' is not one of"),
        (("--error-exitcode", "256"), "--error-exitcode"),
        (("--json", "missing/report.json"), "missing' does not exist; create it first."),
        (("--json", "."), "is a directory"),
        (("--suppressions", "missing.supp"), "missing.supp cannot be read: No such file or directory"),
        (("--suppressions", "."), "is no regular file"),
        (("--suppressions", "/dev/null"), "/dev/null is no regular file"),
        (("--suppressions", "app.py"), "app.py, line 1: \"print('ran')\" stands before the first 'suppression: NAME'"),
        (("--gen-suppressions=missing/x",), "'missing/x' cannot be written: No such file or directory"),
        (("--gen-suppressions=.",), "'.' cannot be written: Is a directory"),
        (("--no-such-option",), "No such option"),
    ],
)
def test_a_wrong_option_is_one_line_and_status_2_and_nothing_runs(
    runner: "Runner", options: tuple[str, ...], words: str
) -> None:
    done = runner.run([*RUN, *options, runner.script("print('ran')\n")])
    stderr = done.stderr.decode()
    assert (done.status, done.stdout, stderr.count("\n")) == (2, b"", 1), stderr
    assert words in stderr


@pytest.mark.parametrize("words", [(), ("--",), ("--quiet",), ("--quiet", "--")])
def test_without_a_program_there_is_nothing_to_run(runner: "Runner", words: tuple[str, ...]) -> None:
    done = runner.run([*RUN, *words])
    assert (done.status, done.stdout) == (2, b"")
    assert b"There is no program to run" in done.stderr


def test_a_file_of_suppressions_that_may_not_be_read_is_named(runner: "Runner") -> None:
    path = runner.folder / "secret.supp"
    path.write_text("")
    path.chmod(0)
    command = (sys.executable, "-c", WITHOUT_PRIVILEGE, *RUN[1:], "--suppressions", path.name, "-c", "print('ran')")
    done = runner.run(command)
    assert (done.status, done.stdout) == (2, b"")
    assert b"secret.supp cannot be read: Permission denied" in done.stderr


def test_what_suppressions_do_not_hold_for_is_told_that_and_runs(runner: "Runner") -> None:
    done = runner.run([*RUN, "--quiet", "--guard", "none", "--gen-suppressions", "/bin/echo", "ran"])
    assert (done.status, done.stdout) == (0, b"ran\n")
    assert b"memprot: '/bin/echo' is no Python program, so that its faults are told" in done.stderr


def test_an_option_given_twice_counts_as_it_was_given_last(runner: "Runner") -> None:
    twice = (
        "--guard",
        "none",
        "--guard",
        "raw",
        "--sample",
        "7",
        "--sample",
        "1",
        "--json",
        "a.json",
        "--json",
        "b.json",
    )
    done = runner.run([*RUN, "--quiet", *twice, "--quiet", "-c", "pass"])
    assert done == (0, b"", b"")
    assert sorted(path.name for path in runner.folder.iterdir()) == ["b.json"]
    assert json.loads((runner.folder / "b.json").read_text())["exit"] == 0


def test_a_program_that_is_none_ends_as_under_python(runner: "Runner") -> None:
    (runner.folder / "folder").mkdir()
    (runner.folder / "zeros.py").write_bytes(bytes(64))
    (runner.folder / "bytes.py").write_bytes(bytes(range(128, 256)) * 8)
    (runner.folder / "late.py").write_bytes(b"print('ran')\n\0")
    (runner.folder / "empty.py").write_bytes(b"")
    statuses = {
        name: runner.both(name).status
        for name in ("folder", "missing.py", "zeros.py", "bytes.py", "late.py", "empty.py", "/dev/null")
    }
    assert statuses.pop("empty.py") == statuses.pop("/dev/null") == 0
    # Early releases of 3.11 take a byte of zero for the end of the program.
    assert all(statuses[name] for name in ("folder", "missing.py", "bytes.py")), statuses


def test_a_program_that_may_not_be_read_ends_as_under_python(runner: "Runner") -> None:
    path = runner.folder / "secret.py"
    path.write_text("print('ran')\n")
    path.chmod(0)
    plain, guarded = (
        runner.run([sys.executable, "-c", WITHOUT_PRIVILEGE, *words, path.name])
        for words in ((), (*RUN[1:], "--quiet"))
    )
    assert (plain.status, plain.stdout) == (2, b"")
    assert b"Permission denied" in plain.stderr
    assert guarded == plain


@pytest.mark.parametrize(
    ("words", "argv"),
    [
        (("--", "app.py", "--", "-x"), ["app.py", "--", "-x"]),
        (("app.py", "--sample", "0"), ["app.py", "--sample", "0"]),
        (("--quiet", "--", "app.py", "--quiet"), ["app.py", "--quiet"]),
        (("--gen-suppressions", "app.py"), ["app.py"]),
        (("--gen-suppressions=-", "--", "app.py"), ["app.py"]),
    ],
)
def test_what_stands_behind_the_program_is_its_own(runner: "Runner", words: tuple[str, ...], argv: list[str]) -> None:
    runner.script("import sys; print(sys.argv)\n")
    done = runner.run([*RUN, *words])
    assert (done.status, done.stdout.decode()) == (0, f"{argv}\n")


FORKS = """
import os, sys
failed = 0
for number in range(1000):
    child = os.fork()
    if child == 0:
        data = bytearray(number)
        data[:] = bytes(number)
        os._exit(number % 7)
    failed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != number % 7
print("children that failed:", failed)
"""


def test_a_program_that_forks_a_thousand_times_does_so_as_without_us(runner: "Runner") -> None:
    plain = runner.run([sys.executable, "-c", FORKS])
    guards = [guard for guard in GUARDS if runner.run([*RUN, "--quiet", "--guard", guard, "-c", "pass"]).stderr == b""]
    assert {"numpy", "raw", "mem", "obj"} <= set(guards)
    command = [*RUN, "--quiet", "--guard", ",".join(guards), "--quarantine", "16MiB", "-c", FORKS]
    assert runner.run(command, timeout=300) == plain
    assert plain == (0, b"children that failed: 0\n", b"")


BEFORE = """
import gc, sys
import memprot.guard

kept = [[bytearray(size), [size] * (size % 50), str(size) * 9, {{size: bytes(size)}}] for size in range(0, 9000, 7)]
for target in {targets!r}:
    memprot.guard.enable(target)
for data, words, text, table in kept:
    data.extend(bytes(100))
    words += [1] * 60
    table.update(dict.fromkeys(range(50), text + "more"))
assert [len(data) - 100 for data, *_ in kept] == list(range(0, 9000, 7))
assert not any(any(data) for data, *_ in kept[:200])
later = [[bytearray(size)] for size in range(500)]
for target in {targets!r}:
    memprot.guard.disable(target)
later[7][0].extend(bytes(5000))
del kept, later, data, words, text, table
gc.collect()
print("ended")
"""


def test_memory_from_before_us_is_freed_and_resized_and_so_is_ours_after_us(runner: "Runner") -> None:
    done = runner.run([sys.executable, runner.script(BEFORE.format(targets=("raw", "mem", "obj")))])
    assert done == (0, b"ended\n", b"")


def test_a_document_that_can_be_written_no_more_is_said_once_and_the_program_ends_as_it_would(runner: "Runner") -> None:
    code = "import shutil, os; shutil.rmtree(os.getcwd()); print('ended')"
    (runner.folder / "inner").mkdir()
    script = f"import os; os.chdir('inner'); {code}"
    done = runner.run([*RUN, "--quiet", "--json", "inner/report.json", "-c", script])
    assert (done.status, done.stdout) == (0, b"ended\n")
    assert not os.path.exists(runner.folder / "inner")
