"""The document of ``memprot run --json`` and its exit status, as seen from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

RUN = (sys.executable, "-m", "memprot", "run")

# A program that hears of faults without making any: the engine's part is tested with the engine.
HEAR = """
import os, sys
from memprot.faults.record import Block, FaultRecord, FaultThread, NativeFrame, PythonFrame
from memprot.run import program
from memprot.run.session import Session
from memprot.run.options import Options

session = Session(Options(json=os.path.abspath("report.json"), error_exitcode={exitcode}), sys.argv)
session.prepare()
program._watch_end(session)

def hear(line=3, recovered=True):
    frames = (PythonFrame(__file__, line, "main"), PythonFrame(__file__, 30, "<module>"))
    block = Block(0x10000, 800, frames, "float64", (100,), "out")
    native = (NativeFrame(0x7000, "convolve", "/app/libfoo.so", 0x4C),)
    session.hear(FaultRecord("overflow", "write", 8, 0x10320, 0, recovered, 11, block, frames, native,
                             FaultThread(os.getpid(), "MainThread"), None))
"""


def document(runner: "Runner") -> Any:
    return json.loads((runner.folder / "report.json").read_text())


def run(runner: "Runner", *program: str) -> tuple[int, Any]:
    done = runner.run([*RUN, "--json", "report.json", *program])
    return done.status, document(runner)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("pass", 0),
        ("import sys; sys.exit(3)", 3),
        ("1 / 0", 1),
        ("import os; os._exit(4)", 4),
        ("import os; os._exit(256 + 7)", 7),
        ("raise KeyboardInterrupt", -2),
        ("import atexit; atexit._clear(); raise SystemExit(5)", 5),
        ("import sys; sys.last_type = KeyboardInterrupt; sys.exit(6)", 6),
        ("import ctypes; ctypes.CDLL(None).exit(8)", 8),
        ("import threading, os; threading.Thread(target=os._exit, args=(9,)).start()", 9),
        ("import os\nif os.fork() == 0: os._exit(1)\nos.wait(); os._exit(2)", 2),
        ("import os, sys\nif os.fork() == 0: sys.exit(1)\nos.wait(); sys.exit(2)", 2),
    ],
)
def test_the_document_has_the_exit_status_that_the_parent_sees(runner: "Runner", text: str, status: int) -> None:
    seen, written = run(runner, "-c", text, "argument")
    assert seen == status
    assert written == {
        "schema": 1,
        "argv": ["-c", text, "argument"],
        "exit": status,
        "guarded": {"numpy": {"arrays": 0, "bytes": 0}},
        "suppressed": [],
        "faults": [],
    }
    assert [path.name for path in runner.folder.iterdir()] == ["report.json"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_program_leaves_a_document_without_a_status(runner: "Runner", number: int) -> None:
    seen, written = run(runner, "-c", f"import os; os.kill(os.getpid(), {number})")
    assert seen == -number
    assert written["exit"] is None


def test_an_executed_program_is_another_and_leaves_the_status_open(runner: "Runner") -> None:
    seen, written = run(runner, "-c", "import os, sys; os.execv(sys.executable, ['python', '-c', 'exit(3)'])")
    assert seen == 3
    assert written["exit"] is None


@pytest.mark.parametrize(
    ("exitcode", "end", "status"),
    [
        (0, "", 0),
        (9, "", 9),
        (9, "sys.exit(0)", 9),
        (9, "sys.exit(3)", 3),
        (9, "os._exit(0)", 9),
        (9, "os._exit(3)", 3),
        (9, "1 / 0", 1),
    ],
)
def test_a_fault_turns_only_status_0_into_the_error_exit_code(
    runner: "Runner", exitcode: int, end: str, status: int
) -> None:
    script = runner.script(HEAR.format(exitcode=exitcode) + f"hear()\n{end}\n")
    assert runner.run([sys.executable, script]).status == status
    assert document(runner)["exit"] == status


def test_without_a_fault_the_error_exit_code_is_not_used(runner: "Runner") -> None:
    assert runner.run([*RUN, "--error-exitcode", "9", "-c", "pass"]).status == 0


def test_faults_that_are_alike_are_told_once_and_counted(runner: "Runner") -> None:
    script = runner.script(HEAR.format(exitcode=0) + "for _ in range(5): hear(line=3)\nhear(line=4)\n")
    done = runner.run([sys.executable, script])
    assert done.stderr.count(b"memprot: write of 8 bytes, 0 bytes past the end of `out`") == 2
    assert [fault["count"] for fault in document(runner)["faults"]] == [5, 1]


def test_a_fault_has_every_key_of_the_contract(runner: "Runner") -> None:
    script = runner.script(HEAR.format(exitcode=0) + "hear()\n")
    assert runner.run([sys.executable, script]).status == 0
    (fault,) = document(runner)["faults"]
    main = {"file": str(runner.folder / script), "line": 3, "function": "main"}
    stack = [main, {**main, "line": 30, "function": "<module>"}]
    thread = fault.pop("thread")
    assert thread["name"] == "MainThread"
    assert fault == {
        "kind": "overflow",
        "access": "write",
        "key": None,
        "size": 8,
        "element": None,
        "address": "0x10320",
        "distance": 0,
        "count": 1,
        "recovered": True,
        "signal": "SIGSEGV",
        "file": None,
        "depth": None,
        "call": None,
        "object": {
            "nbytes": 800,
            "dtype": "float64",
            "shape": [100],
            "name": "out",
            "allocator": None,
            "allocated": {**main, "stack": stack, "native": []},
            "freed": None,
        },
        "python": stack,
        "native": [
            {"function": "convolve", "library": "/app/libfoo.so", "offset": 0x4C, "file": None, "line": None},
        ],
        "mapping": None,
        "instruction": None,
        "value": None,
        "time": None,
    }


def test_a_program_killed_after_a_fault_leaves_a_document_that_has_it(runner: "Runner") -> None:
    script = runner.script(HEAR.format(exitcode=0) + "hear()\nos.kill(os.getpid(), 9)\n")
    assert runner.run([sys.executable, script]).status == -9
    written = document(runner)
    assert written["exit"] is None
    assert len(written["faults"]) == 1


def test_a_program_that_dies_of_a_fault_leaves_the_signal(runner: "Runner") -> None:
    text = "hear(recovered=False)\nimport signal\nsignal.signal(11, signal.SIG_DFL)\nos.kill(os.getpid(), 11)\n"
    assert runner.run([sys.executable, runner.script(HEAR.format(exitcode=0) + text)]).status == -11
    assert document(runner)["exit"] == -11


def test_a_program_that_survives_an_announced_death_leaves_its_status(runner: "Runner") -> None:
    script = runner.script(HEAR.format(exitcode=0) + "hear(recovered=False)\nsys.exit(3)\n")
    assert runner.run([sys.executable, script]).status == 3
    assert document(runner)["exit"] == 3


def test_a_signal_handler_can_add_the_last_fault(runner: "Runner") -> None:
    text = 'from memprot import _native\n{before}_native.die(11, b\'{{"kind": "bus"}}\')\nos.kill(os.getpid(), 9)\n'
    for before, kinds in (("", ["bus"]), ("hear()\n", ["overflow", "bus"])):
        script = runner.script(HEAR.format(exitcode=0) + text.format(before=before))
        assert runner.run([sys.executable, script]).status == -9
        written = document(runner)
        assert [fault["kind"] for fault in written["faults"]] == kinds
        assert written["exit"] == -11


def test_a_forked_child_tells_its_faults_and_does_not_write_the_document(runner: "Runner") -> None:
    text = "if os.fork() == 0:\n    hear()\n    sys.exit(4)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    done = runner.run([sys.executable, runner.script(HEAR.format(exitcode=9) + text)])
    assert done.status == 0
    assert done.stdout == b"4\n"
    assert done.stderr.count(b"memprot: write of 8 bytes") == 1
    assert document(runner)["faults"] == []


def test_a_fork_while_another_thread_tells_a_fault_does_not_hang(runner: "Runner") -> None:
    text = (
        "import threading\n"
        "def keep_hearing():\n    for line in range(300): hear(line)\n"
        "thread = threading.Thread(target=keep_hearing)\nthread.start()\n"
        "for _ in range(5):\n"
        "    if os.fork() == 0:\n        hear(1000)\n        os._exit(0)\n"
        "    os.wait()\n"
        "thread.join()\n"
    )
    flags = ["-W", "ignore"]  # Python warns of a fork in a process with threads
    assert runner.run([sys.executable, *flags, runner.script(HEAR.format(exitcode=0) + text)]).status == 0
    assert len(document(runner)["faults"]) == 300


def test_readers_never_see_a_part_of_the_document(runner: "Runner") -> None:
    script = runner.script(HEAR.format(exitcode=0) + "for line in range(400): hear(line)\n")
    path = runner.folder / "report.json"
    with subprocess.Popen(
        [sys.executable, script], cwd=runner.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        while not path.exists() and child.poll() is None:
            time.sleep(0.001)
        while child.poll() is None:
            json.loads(path.read_text())
    assert len(document(runner)["faults"]) == 400


def test_a_document_in_a_folder_that_is_missing_stops_before_the_program_starts(runner: "Runner") -> None:
    done = runner.run([*RUN, "--json", "missing/report.json", "-c", "print(1)"])
    assert (done.status, done.stdout) == (2, b"")
    assert b"missing' does not exist; create it first" in done.stderr


def test_a_document_that_is_a_folder_stops_before_the_program_starts(runner: "Runner") -> None:
    done = runner.run([*RUN, "--json", ".", "-c", "print(1)"])
    assert (done.status, done.stdout) == (2, b"")


def test_a_document_keeps_its_mode_and_the_link_that_leads_to_it(runner: "Runner") -> None:
    target = runner.folder / "target.json"
    target.write_text("old")
    target.chmod(0o640)
    (runner.folder / "report.json").symlink_to("target.json")
    assert run(runner, "-c", "pass")[0] == 0
    assert (runner.folder / "report.json").is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_document_may_be_a_pipe(runner: "Runner") -> None:
    read, write = os.pipe()
    with open(read, "rb") as reader:
        child = subprocess.Popen([*RUN, "--json", f"/dev/fd/{write}", "-c", "exit(3)"], pass_fds=[write])
        os.close(write)
        text = reader.read()
        assert child.wait() == 3
    assert json.loads(text)["exit"] == 3


def test_the_working_directory_of_the_program_does_not_move_the_document(runner: "Runner") -> None:
    assert run(runner, "-c", "import os; os.chdir('/')")[1]["exit"] == 0


def test_a_document_that_cannot_be_written_at_the_end_is_told(runner: "Runner") -> None:
    (runner.folder / "gone").mkdir()
    command = [*RUN, "--json", "gone/report.json", "-c", "import shutil; shutil.rmtree('gone')"]
    done = runner.run(command)
    assert done.status == 0
    assert b"memprot: cannot write " in done.stderr
    assert b"gone/report.json: No such file or directory\n" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), b"There is no program to run"),
        (("--json", "x"), b"There is no program to run"),
        (("--",), b"There is no program to run"),
        (("--no-such", "app.py"), b"--no-such"),
        (("--on-fault", "cry", "app.py"), b"cry"),
        (("--side", "top", "app.py"), b"top"),
        (("--error-exitcode", "256", "app.py"), b"256"),
        (("--error-exitcode", "x", "app.py"), b"'x'"),
        (("--json",), b"--json"),
    ],
)
def test_a_wrong_call_is_told_and_ends_with_2(runner: "Runner", arguments: tuple[str, ...], complaint: bytes) -> None:
    done = runner.run([*RUN, *arguments])
    assert done.status == 2
    assert complaint in done.stderr
    assert list(runner.folder.iterdir()) == []


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_flags_that_keep_memprot_from_starting_are_refused(runner: "Runner", flag: str) -> None:
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; sys.argv = ['memprot', 'run', '-c', 'print(1)']; "
        "from memprot.cli.main import main; main()"
    )
    done = runner.run([sys.executable, flag, "-c", code])
    assert (done.status, done.stdout) == (2, b"")
    assert f"memprot cannot start under python {flag}".encode() in done.stderr


def test_what_looks_like_a_flag_can_be_a_script(runner: "Runner") -> None:
    runner.script("print(6)", "-q")
    assert runner.run([*RUN, "--quiet", "--", "-q"]).stdout == b"6\n"


def test_memprot_is_found_where_only_the_launcher_finds_it(runner: "Runner", tmp_path: Path) -> None:
    """Started by a path that the new interpreter does not know."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        "sys.argv = ['memprot', 'run', '--quiet', '-c', 'print(6)']; "
        "from memprot.cli.main import main; main()"
    )
    done = runner.run([os.path.realpath(sys.executable), "-c", code])
    assert (done.status, done.stdout, done.stderr) == (0, b"6\n", b"")
