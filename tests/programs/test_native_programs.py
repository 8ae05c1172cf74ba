"""``memprot run`` on programs that are not Python: as without memprot, but for what it tells of faults."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Outcome, Runner

RUN = (sys.executable, "-m", "memprot", "run")
SOURCE = Path(__file__).parent.parent / "native" / "heap.c"


@pytest.fixture(scope="module")
def heap(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled(tmp_path_factory.mktemp("heap") / "heap")


def compiled(target: Path, *flags: str, compiler: str = "cc") -> str:
    subprocess.run([compiler, "-O1", "-g", "-pthread", *flags, "-o", target, SOURCE], check=True)
    return str(target)


def both(runner: "Runner", *program: str, options: tuple[str, ...] = ("--quiet",), stdin: bytes = b"") -> "Outcome":
    """What the program does by itself, after a check that it does the same under memprot."""
    plain = runner.run(program, stdin=stdin)
    assert runner.run([*RUN, *options, "--", *program], stdin=stdin) == plain
    return plain


def unguarded(runner: "Runner", *program: str, because: str) -> None:
    plain = runner.run(program)
    done = runner.run([*RUN, "--", *program])
    line = f"memprot: {program[0]} runs as it is, without guards: {because}".encode()
    assert (done.status, done.stdout) == (plain.status, plain.stdout)
    (told,) = done.stderr.splitlines()
    assert told.startswith(line)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("nothing",), 0),
        (("exit", "3"), 3),
        (("_exit", "4"), 4),
        (("quick_exit", "5"), 5),
        (("raise", str(int(signal.SIGTERM))), -signal.SIGTERM),
        (("raise", str(int(signal.SIGSEGV))), -signal.SIGSEGV),
        (("raise", str(int(signal.SIGPIPE))), -signal.SIGPIPE),
        (("own-handler",), 0),
        (("thread-attributes",), 0),
        (("exec", "sh", "-c", "echo $1 $LD_PRELOAD; exit 6", "sh", "word"), 6),
    ],
)
def test_a_program_without_errors_is_what_it_is_without_memprot(
    runner: "Runner", heap: str, words: tuple[str, ...], status: int
) -> None:
    assert both(runner, heap, *words).status == status


def test_the_program_sees_the_environment_that_the_user_gave(runner: "Runner") -> None:
    plain = both(runner, "env")
    assert b"LD_PRELOAD" not in plain.stdout
    other = runner.run(["env", "-u", "LC_CTYPE", "LD_PRELOAD=libm.so.6", "LC_ALL=C", *RUN, "--quiet", "--", "env"])
    assert b"\nLD_PRELOAD=libm.so.6\n" in b"\n" + other.stdout
    assert b"MEMPROT_" not in other.stdout
    assert b"LC_CTYPE" not in other.stdout


def test_what_has_no_slash_is_looked_for_in_path_behind_two_dashes_only(runner: "Runner") -> None:
    assert both(runner, "expr", "2", "+", "4").stdout == b"6\n"
    without = runner.run([*RUN, "--quiet", "expr", "2", "+", "4"])
    assert without.status == 2
    assert b"can't open file" in without.stderr


def test_an_executable_file_needs_no_dashes(runner: "Runner", heap: str) -> None:
    assert runner.run([*RUN, "--quiet", heap, "exit", "3"]) == runner.run([heap, "exit", "3"])


def test_a_program_that_is_not_there_is_named(runner: "Runner") -> None:
    assert runner.run([*RUN, "--", "./nowhere"]) == (127, b"", b"memprot: There is no program './nowhere'.\n")
    missing = runner.run([*RUN, "--", "nowhere-in-path"])
    assert missing == (127, b"", b"memprot: There is no program 'nowhere-in-path', neither here nor in PATH.\n")


def test_a_file_that_may_not_be_executed_is_named(runner: "Runner", heap: str) -> None:
    shutil.copyfile(heap, runner.folder / "heap")
    done = runner.run([*RUN, "./heap"])
    assert done == (126, b"", b"memprot: './heap' cannot be started: Permission denied.\n")


def script(runner: "Runner", first: str, rest: str) -> str:
    path = runner.folder / "script"
    path.write_text(f"{first}\n{rest}\n")
    path.chmod(0o755)
    return "./script"


def test_a_script_is_run_by_the_interpreter_it_names(runner: "Runner") -> None:
    assert both(runner, script(runner, "#!/bin/sh", 'echo "$0 $1"; exit 3'), "word").stdout == b"./script word\n"


def test_an_interpreter_that_env_looks_for_is_guarded(runner: "Runner") -> None:
    path = script(runner, "#!/usr/bin/env sh", 'echo "$0 $1"; exit 3')
    assert both(runner, path, "word").stdout == b"./script word\n"
    assert b"blocks of malloc were guarded" in runner.run([*RUN, path]).stderr


@pytest.mark.parametrize("first", ["#!/usr/bin/env python3", "#!/usr/bin/python3 -s", ""])
def test_a_script_for_python_is_run_by_this_python(runner: "Runner", first: str) -> None:
    path = script(runner, first, "import sys; print(sys.executable, *sys.argv)")
    for dashes in ((), ("--",)):
        done = runner.run([*RUN, "--quiet", *dashes, path, "word"])
        assert done == (0, f"{sys.executable} ./script word\n".encode(), b"")


def test_a_static_program_runs_as_it_is(runner: "Runner") -> None:
    program = compiled(runner.folder / "static", "-static")
    unguarded(runner, program, "exit", "3", because="it is linked statically.")


@pytest.mark.skipif(shutil.which("musl-gcc") is None, reason="needs musl-gcc, of Debian's musl-tools")
def test_a_program_with_another_c_library_runs_as_it_is(runner: "Runner") -> None:
    program = compiled(runner.folder / "musl", "-D_GNU_SOURCE", compiler="musl-gcc")
    unguarded(runner, program, "exit", "3", because="its C library is musl")


def test_a_program_with_a_sanitizer_runs_as_it_is(runner: "Runner") -> None:
    try:
        program = compiled(runner.folder / "sanitized", "-fsanitize=address")
    except subprocess.CalledProcessError:
        pytest.skip("needs the compiler's AddressSanitizer")
    unguarded(runner, program, "exit", "3", because="it was built with a sanitizer (asan)")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a program of another user")
def test_a_program_that_gains_rights_runs_as_it_is(runner: "Runner", heap: str) -> None:
    shutil.copy(heap, runner.folder / "gains")
    os.chown(runner.folder / "gains", 65534, 65534)
    (runner.folder / "gains").chmod(0o4755)
    unguarded(runner, "./gains", "exit", "3", because="it is set-user-ID")
    (runner.folder / "gains").chmod(0o2755)
    unguarded(runner, "./gains", "exit", "3", because="it is set-group-ID")


@pytest.mark.parametrize(
    "program",
    [
        ("bash", "-c", "for i in 1 2 3; do echo $i | cat; done; (exit 3)"),
        ("git", "--version"),
        ("sqlite3", ":memory:", "create table t (a); insert into t values (1), (2); select sum(a) from t"),
        ("perl", "-e", "my %h = map { $_ => $_ * $_ } 1 .. 1000; print join ',', map { $h{$_} } sort keys %h; exit 7"),
        ("gcc", "-x", "c", "-", "-fsyntax-only", "-Wall"),
        ("java", "-version"),
        ("node", "-e", "console.log([3, 4].map(side => side * side).reduce((sum, square) => sum + square))"),
    ],
    ids=lambda program: program[0],
)
def test_programs_that_nobody_prepared_are_what_they_are(runner: "Runner", program: tuple[str, ...]) -> None:
    if shutil.which(program[0]) is None:
        pytest.skip(f"needs {program[0]}")
    both(runner, *program, stdin=b"int main(void) { int unused; return 0; }\n")
