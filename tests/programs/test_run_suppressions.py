"""``memprot run --suppressions`` and ``--gen-suppressions``, as seen from outside."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner, Watched

pytest.importorskip("numpy")

Watch = Callable[..., "Watched"]

PROGRAM = """
import ctypes, threading
import numpy
import misbehave
from memprot import FaultError, catch_faults
from memprot.faults import history

def known(array):
    misbehave.write(array.ctypes.data + array.nbytes, 1)

def other(array):
    misbehave.write(array.ctypes.data + array.nbytes, 1)

def told(function):
    array = numpy.zeros(10)
    try:
        function(array)
        numpy.zeros(1)
    except FaultError:
        return "raised"
    assert not array.any()
    return "nothing"

{body}
"""

KNOWN = """
# What is known.
suppression: known overrun
    kind: overflow
    access: write
    function: touch_write
    ...
    function: known  file: app.py
"""


@pytest.fixture
def environment(misbehave_path: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(misbehave_path)}


@pytest.fixture
def watch(runner: "Runner", environment: dict[str, str]) -> Watch:
    def run(body: str, *options: str, suppressions: str = KNOWN, **variables: str) -> "Watched":
        (runner.folder / "known.supp").write_text(suppressions)
        return runner.watch(
            runner.script(PROGRAM.format(body=body)),
            options=["--suppressions", "known.supp", *options],
            environment={**environment, **variables},
        )

    return run


def counts(done: "Watched") -> dict[str, int]:
    return {one["name"]: one["count"] for one in done.document["suppressed"]}


def test_a_suppressed_fault_is_blocked_and_nobody_hears_of_it(watch: Watch) -> None:
    done = watch("print(told(known), len(history()))", "--error-exitcode", "9")
    assert (done.status, done.stdout) == (0, "nothing 0\n")
    assert done.document["faults"] == []
    assert counts(done) == {"known overrun": 1}
    place = done.document["suppressed"][0]["place"]
    assert place.endswith("known.supp:3")
    assert done.stderr == (
        f"{done.stderr.splitlines()[0]}\nmemprot: 1 fault was suppressed: 1 by 'known overrun' ({place}).\n"
    )
    assert done.stderr.startswith("memprot: no faults.")


def test_other_faults_are_told_as_ever(watch: Watch) -> None:
    done = watch("print(told(known), told(other), told(known))", "--error-exitcode", "9")
    assert (done.status, done.stdout) == (9, "nothing raised nothing\n")
    assert done.fault["python"][0]["function"] == "other"
    assert counts(done) == {"known overrun": 2}


def test_it_is_raised_in_no_thread_scope_or_statement(watch: Watch) -> None:
    body = """
results = []
thread = threading.Thread(target=lambda: results.append(told(known)))
thread.start()
thread.join()
with catch_faults() as scope:
    results.append(told(known))
array = numpy.zeros(10)
view = numpy.lib.stride_tricks.as_strided(array, (12,))
def known_statement():
    view[10] = 1
try:
    known_statement()
    results.append("nothing")
except FaultError:
    results.append("raised")
try:
    view[11] = 1
except FaultError:
    results.append("raised")
print(results, scope.faults)
"""
    more = KNOWN + "suppression: statement\n ...\n function: known_statement\n"
    done = watch(body, suppressions=more)
    assert (done.status, done.stdout) == (0, "['nothing', 'nothing', 'nothing', 'raised'] ()\n")
    assert counts(done) == {"known overrun": 2, "statement": 1}


def test_a_function_without_a_name_of_its_own_is_known_by_that_of_its_library(watch: Watch) -> None:
    body = "print(told(lambda array: ctypes.memset(array.ctypes.data, 0, array.nbytes + 1)))"
    done = watch(body, suppressions="suppression: memset\nlibrary: libc.so*  function: memset\n")
    assert (done.status, done.stdout, counts(done)) == (0, "nothing\n", {"memset": 1})


@pytest.mark.parametrize(
    ("block", "count"),
    [
        ("kind: *", 1),
        ("access: write", 1),
        ("access: read, execute", 0),
        ("kind: underflow, use-after-free", 0),
        ("kind: underflow overflow", 1),
        ("function: touch_write", 1),
        ("function: touch_?rite", 1),
        ("function: touch", 0),
        ("function: *", 1),
        ("library: misbehave*.so  function: touch_*", 1),
        ("library: */misbehave*", 1),
        ("library: other*", 0),
        ("function: known", 0),
        ("...\nfunction: known", 1),
        ("...\nfile: app.py\nfunction: told\n...\nfunction: <module>  file: a*.p?", 1),
        ("...\nfunction: known\nfunction: <module>", 0),
        ("...\nfile: app.py\n...\nfile: app.py\nfile: app.py\nfile: app.py", 0),
        ("...\nlibrary: *\nfile: *", 1),
    ],
)
def test_patterns_are_compared_from_the_innermost_frame_outwards(watch: Watch, block: str, count: int) -> None:
    done = watch("told(known)", suppressions=f"suppression: one\n{block}\n")
    assert (counts(done), len(done.document["faults"])) == ({"one": count}, 1 - count)


@pytest.mark.parametrize(
    ("kind", "options", "body"),
    [
        (
            "use-after-free",
            ("--quarantine", "1MiB"),
            "address = numpy.zeros(99).ctypes.data\nmisbehave.write(address, 1)",
        ),
        (
            "slack",
            ("--side", "left"),
            "array = numpy.zeros(13, 'u1')\nmisbehave.write(array.ctypes.data + 14, 1)\ndel array",
        ),
        ("underflow", ("--side", "left"), "array = numpy.zeros(99)\nmisbehave.read(array.ctypes.data - 1)"),
    ],
)
def test_each_kind_is_known_by_its_name(watch: Watch, kind: str, options: tuple[str, ...], body: str) -> None:
    body = f"with catch_faults('log') as scope:\n    exec({body!r})\nprint(len(scope.faults))"
    done = watch(body, *options, suppressions="suppression: other\nkind: overflow, key\n")
    assert (done.stdout, done.fault["kind"]) == ("1\n", kind)
    done = watch(body, *options, suppressions=f"suppression: this\nkind: {kind}\n")
    assert (done.stdout, counts(done), done.document["faults"]) == ("0\n", {"this": 1}, [])


def test_a_callable_of_the_program_is_asked_all_the_same(watch: Watch) -> None:
    body = "with catch_faults(lambda fault: print('asked', fault.access)):\n    known(numpy.zeros(10))"
    done = watch(body)
    assert (done.stdout, counts(done)) == ("asked write\n", {"known overrun": 0})


def test_abort_ends_the_program_at_the_first_fault_that_is_not_suppressed(watch: Watch) -> None:
    both = "print(told(known), told(known), flush=True)\ntold(other)"
    done = watch(both, "--on-fault", "abort")
    assert (done.status, done.stdout) == (-11, "nothing nothing\n")
    assert done.fault["python"][0]["function"] == "other"
    slack = "array = numpy.zeros(13, 'u1')\nmisbehave.write(array.ctypes.data + 14, 1)\ndel array\nprint('ended')"
    done = watch(slack, "--on-fault", "abort", "--side", "left", suppressions="suppression: slack\nkind: slack\n")
    assert (done.status, done.stdout, counts(done)) == (0, "ended\n", {"slack": 1})


def test_a_death_is_not_suppressed(watch: Watch) -> None:
    done = watch("misbehave.write(8, 1)", suppressions="suppression: all\nkind: *\n")
    assert (done.status, done.fault["kind"], done.fault["recovered"]) == (-11, "unmapped", False)


def test_unused_suppressions_are_named_at_the_end_unless_quiet(watch: Watch) -> None:
    done = watch("pass")
    assert "memprot: the suppression 'known overrun' (" in done.stderr
    assert done.stderr.endswith("known.supp:3) matched nothing.\n")
    assert counts(done) == {"known overrun": 0}
    assert watch("told(known)", "--quiet").stderr == ""


def test_files_of_the_environment_and_of_options_count_together(watch: Watch, runner: "Runner") -> None:
    (runner.folder / "a, b.supp").write_text("suppression: elsewhere\n...\nfunction: other\n")
    body = "import os\nos.chdir('/')\nprint(told(known), told(other))"
    done = watch(body, MEMPROT_SUPPRESSIONS="a, b.supp:")
    assert (done.stdout, counts(done)) == ("nothing nothing\n", {"elsewhere": 1, "known overrun": 1})
    done = watch(body, "--suppressions", "a, b.supp")
    assert counts(done) == {"known overrun": 1, "elsewhere": 1}


def test_what_is_generated_silences_the_next_run(watch: Watch, runner: "Runner") -> None:
    body = """
def fill(array):
    ctypes.memset(array.ctypes.data, 0, array.nbytes + 9)
functions = [known, other, fill, lambda array: misbehave.read(array.ctypes.data + array.nbytes, gil=False)]
print([told(function) for function in functions for _ in range(3)])
thread = threading.Thread(target=lambda: print([told(function) for function in functions]))
thread.start()
thread.join()
array = numpy.zeros(4)
numpy.add.reduce(numpy.lib.stride_tricks.as_strided(array, (9,)))
"""
    for generate in ("--gen-suppressions=new.supp", "--gen-suppressions"):
        first = watch(body, "--on-fault", "log", generate, "--quiet", suppressions="")
        assert len(first.document["faults"]) >= 5
        if generate.endswith("new.supp"):
            blocks = (runner.folder / "new.supp").read_text()
            again = watch(body, "--on-fault", "log", generate, "--quiet", suppressions="")
            assert (again.status, (runner.folder / "new.supp").read_text()) == (0, blocks)
        else:
            lines = first.stderr.splitlines()
            blocks = "".join(
                f"{line}\n" for line in lines if line.startswith(("suppression: ", "    ")) and "│" not in line
            )
        assert 5 <= blocks.count("suppression: ") <= len(first.document["faults"])
        second = watch(body, "--quiet", suppressions=blocks)
        assert (second.status, second.stderr, second.document["faults"]) == (0, "", [])
        assert second.stdout == str(["nothing"] * 12) + "\n" + str(["nothing"] * 4) + "\n"
        assert sum(counts(second).values()) >= len(first.document["faults"])


def test_nothing_is_generated_for_a_death(watch: Watch) -> None:
    done = watch("misbehave.write(8, 1)", "--gen-suppressions", suppressions="")
    assert (done.status, "suppression:" in done.stderr) == (-11, False)


HEAP = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def overrun():
    block = libc.malloc(100)
    libc.memset(block, 1, 130)
    libc.free(block)
def free_twice():
    block = libc.malloc(100)
    libc.free(block)
    libc.free(block)
overrun()
free_twice()
print("ended")
"""


def test_what_malloc_finds_is_silenced_by_what_is_generated_of_it(runner: "Runner") -> None:
    options = ("--quiet", "--guard", "malloc", "--on-fault", "log", "--gen-suppressions=new.supp")
    first = runner.watch(runner.script(HEAP), options=options)
    kinds = [fault["kind"] for fault in first.document["faults"]]
    assert (first.stdout, kinds) == ("ended\n", ["overflow", "slack", "double-free"])
    assert "memprot_malloc" not in (runner.folder / "new.supp").read_text()
    second = runner.watch("app.py", options=(*options, "--suppressions", "new.supp"))
    assert (second.stdout, second.stderr, second.document["faults"]) == ("ended\n", "", [])
    assert [one["count"] for one in second.document["suppressed"]] == [1, 1, 1]
