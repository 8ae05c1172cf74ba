"""Under gdb, strace, valgrind and rr."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from neighbour import SETUP

RunUnder = Callable[..., subprocess.CompletedProcess[str]]
PROGRAM = f"{SETUP}\nprint(*(raises(gil=index % 2 == 0) for index in range(4)), flush=True)\n"
FOUR = "True True True True\n"


def may_trace() -> bool:
    """A container may forbid ptrace(2), which gdb, strace and rr are made of."""
    probe = "import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(0, 0, 0, 0) != 0)"
    return subprocess.run([sys.executable, "-c", probe]).returncode == 0


def needs_program(name: str) -> pytest.MarkDecorator:
    if name != "valgrind" and not may_trace():
        return pytest.mark.skip(reason="this process may not use ptrace(2)")
    return pytest.mark.skipif(
        shutil.which(name) is None, reason=f"{name} is not installed; make neighbours installs it"
    )


@pytest.fixture
def run_under(misbehave_path: Path, tmp_path: Path) -> RunUnder:
    """Run a program in Python under another program."""

    def run(*command: str, code: str = PROGRAM, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "program.py"
        script.write_text(f"import sys; sys.path.insert(0, {str(misbehave_path)!r})\n{code}")
        return subprocess.run(
            [*command, sys.executable, str(script)], capture_output=True, text=True, timeout=timeout, cwd=tmp_path
        )

    return run


GDB = ("gdb", "-nx", "-batch", "-return-child-result", "-ex", "set startup-with-shell off")
PASS = ("-ex", "handle SIGSEGV nostop noprint pass", "-ex", "handle SIGBUS nostop noprint pass")


@needs_program("gdb")
def test_gdb_told_to_pass_the_signal_on_sees_nothing_of_it(run_under: RunUnder) -> None:
    done = run_under(*GDB, *PASS, "-ex", "run", "--args")
    assert (done.returncode, FOUR in done.stdout) == (0, True), done.stdout + done.stderr
    assert "SIGSEGV" not in done.stdout.split("pass to program", 1)[0]
    assert "received signal" not in done.stdout


@needs_program("gdb")
def test_gdb_stops_at_a_fault_by_default_and_the_program_can_go_on(run_under: RunUnder) -> None:
    steps = [step for _ in range(4) for step in ("-ex", "continue")]
    done = run_under(*GDB, "-ex", "run", "-ex", "backtrace 1", *steps, "--args")
    assert done.stdout.count("received signal SIGSEGV") == 4
    assert "touch_write" in done.stdout
    assert FOUR in done.stdout


@needs_program("gdb")
def test_gdb_stops_where_a_fault_that_nobody_recovers_happened(run_under: RunUnder) -> None:
    code = f"{PROGRAM}misbehave.null_write()\n"
    done = run_under(*GDB, *PASS, "-ex", "run", "-ex", "backtrace 1", "--args", code=code)
    assert FOUR in done.stdout
    assert "Program terminated with signal SIGSEGV" in done.stdout


@needs_program("strace")
def test_strace_shows_each_fault_and_changes_nothing(run_under: RunUnder, tmp_path: Path) -> None:
    log = tmp_path / "strace"
    done = run_under("strace", "-f", "-qq", "-o", str(log), "-e", "trace=none", "-e", "signal=SIGSEGV")
    assert (done.returncode, done.stdout) == (0, FOUR), done.stderr
    assert len(re.findall(r"SIGSEGV \{si_signo=SIGSEGV, si_code=SEGV_ACCERR", log.read_text())) == 4


@needs_program("valgrind")
def test_valgrind_gives_the_handler_what_the_processor_would(run_under: RunUnder) -> None:
    done = run_under("valgrind", "-q", "--tool=none", timeout=250)
    assert (done.returncode, done.stdout) == (0, FOUR), done.stderr


@needs_program("rr")
def test_rr_records_and_replays_a_recovered_fault_where_it_runs(run_under: RunUnder, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    probe = subprocess.run(["rr", "record", "-o", f"{trace}0", "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"rr does not run here: {' '.join(probe.stderr.split())[-300:]}")
    done = run_under("rr", "record", "-o", trace)
    assert (done.returncode, done.stdout) == (0, FOUR), done.stderr
    replay = subprocess.run(["rr", "replay", "-a", trace], capture_output=True, text=True, timeout=120)
    assert FOUR in replay.stdout


@needs_program("gdb")
def test_gdb_may_attach_to_a_program_that_is_recovering(misbehave_path: Path, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(f"""import sys; sys.path.insert(0, {str(misbehave_path)!r})
{SETUP}
import json, time
good = [raises()]
print("ready", flush=True)
deadline = time.monotonic() + 60
def traced():
    with open("/proc/self/status") as status:
        return "TracerPid:\\t0\\n" not in status.read()
while not traced() and time.monotonic() < deadline:
    good.append(raises())
was_traced = traced()
for _ in range(5):
    good.append(raises())
while traced() and time.monotonic() < deadline:
    good.append(raises())
print(json.dumps([was_traced, all(good), raises()]))
""")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        attach = ["gdb", "-nx", "-batch", "-p", str(child.pid), *PASS]
        interrupt = "gdb.post_event(lambda: gdb.execute('interrupt'))"
        timer = f"python import threading; threading.Timer(1, lambda: {interrupt}).start()"
        steps = ["-ex", timer, "-ex", "continue", "-ex", "detach"]
        subprocess.run([*attach, *steps], capture_output=True, text=True, timeout=60)
        said = child.stdout.read()
        assert (child.wait(timeout=60), json.loads(said or "null")) == (0, [True, True, True])
