"""Processes that come of others: fork, vfork, spawn, exec. Each has memory, and handlers, of its own."""

import signal
import subprocess
from collections.abc import Callable

import pytest
from neighbour import SETUP, printed

RunChild = Callable[..., subprocess.CompletedProcess[str]]

IN_CHILD = """
def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
DISPOSITIONS = """
import signal
def bits(name):
    with open("/proc/self/status") as file:
        (mask,) = [int(line.split()[1], 16) for line in file if line.startswith(name)]
    return sorted(number.name for number in (signal.SIGSEGV, signal.SIGBUS) if mask >> (number - 1) & 1)
print(bits("SigCgt"), bits("SigIgn"), bits("SigBlk"), bits("SigPnd"))
"""
CLEAN = "[] [] [] []"


@pytest.mark.parametrize("fork", ["os.fork()", "pty.fork()[0]"], ids=["fork", "a pseudo-terminal"])
@pytest.mark.parametrize("inside", [False, True], ids=["outside", "in a scope"])
def test_a_forked_child_recovers_on_memory_of_its_own(run_child: RunChild, fork: str, inside: bool) -> None:
    child = run_child(f"""{SETUP}{IN_CHILD}
import contextlib, pty
raises()
with catch_faults() if {inside} else contextlib.nullcontext():
    pid = {fork}
    if pid == 0:
        region.protect("rw-")
        region[:4] = b"mine"
        region.protect("r--")
        try:
            with catch_faults():
                misbehave.write(region.address, 1)
        except FaultError:
            os._exit(0 if region.read(0, 4) == b"mine" else 2)
        os._exit(1)
    print(status(pid), raises(), region.read(0, 4) == bytes(4))
""")
    assert printed(child) == "0 True True"


def test_a_fault_that_kills_a_child_leaves_the_parent_alone(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}{IN_CHILD}
pid = os.fork()
if pid == 0:
    misbehave.write(region.address, 1)
    os._exit(0)
print(status(pid) == -signal.SIGSEGV, raises())
""")
    assert printed(child) == "True True"
    assert child.stderr.count("memprot: fatal write") == 1


def test_a_forked_child_of_a_threads_fault_works(run_child: RunChild) -> None:
    """Its thread that forked is its main thread now."""
    child = run_child(f"""{SETUP}{IN_CHILD}
def work():
    for gil in (True, False):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if raises(gil) and raises(not gil) else 1)
        print(status(pid), raises(gil))
thread = threading.Thread(target=work)
thread.start()
thread.join()
""")
    assert printed(child) == "0 True\n0 True"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_works_in_each_of_its_ways(run_child: RunChild, method: str, tmp_path: object) -> None:
    child = run_child(f"""
import multiprocessing, sys
sys.path.insert(0, {str(tmp_path)!r})
if __name__ == "__main__":
    with open({str(tmp_path)!r} + "/work.py", "w") as file:
        file.write({SETUP!r} + "\\ndef work(index):\\n    return raises(gil=bool(index % 2))\\n")
    import work
    with multiprocessing.get_context({method!r}).Pool(2) as pool, work.catch_faults():
        print(all(pool.map(work.work, range(20))), work.raises())
""")
    assert printed(child) == "True True"


PROGRAM = "[sys.executable, '-c', DISPOSITIONS]"
STARTS = {
    "subprocess": f"print(subprocess.run({PROGRAM}, stdout=subprocess.PIPE, text=True).stdout.strip())",
    "subprocess with preexec_fn": f"print(subprocess.run({PROGRAM}, stdout=subprocess.PIPE, text=True, "
    "preexec_fn=lambda: raises() or os._exit(9)).stdout.strip())",
    "subprocess without vfork": f"subprocess._USE_VFORK = False; print(subprocess.run({PROGRAM}, "
    "stdout=subprocess.PIPE, text=True).stdout.strip())",
    "posix_spawn": f"print(end='', flush=True); os.waitpid(os.posix_spawn(sys.executable, {PROGRAM}, os.environ), 0)",
    "system": "os.environ['PROGRAM'] = DISPOSITIONS; os.system(f'{sys.executable} -c \"$PROGRAM\"')",
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_started_program_finds_the_signals_as_if_we_were_not_there(run_child: RunChild, start: str) -> None:
    child = run_child(f"""{SETUP}
import subprocess
DISPOSITIONS = {DISPOSITIONS!r}
with catch_faults():
    {start}
print(raises())
""")
    assert printed(child) == f"{CLEAN}\nTrue"


def test_starting_programs_while_a_thread_faults(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
import subprocess
over = threading.Event()
good = []
def work():
    while not over.is_set():
        good.append(raises(gil=False))
thread = threading.Thread(target=work)
thread.start()
done = [subprocess.run(["true"], preexec_fn=how).returncode for how in (None, lambda: None) for _ in range(15)]
over.set()
thread.join()
print(set(done), len(good) > 0, all(good))
""")
    assert printed(child) == "{0} True True"


@pytest.mark.parametrize("stack", [False, True], ids=["plain", "with an alternate stack"])
@pytest.mark.parametrize("when", ["outside", "in a scope", "a fault pending", "in a thread"])
def test_exec_takes_nothing_along(run_child: RunChild, when: str, stack: bool) -> None:
    execute = "os.execv(sys.executable, [sys.executable, '-c', DISPOSITIONS])"
    act = {
        "outside": execute,
        "in a scope": f"with catch_faults():\n    {execute}",
        "a fault pending": "import functools\nprogram = (sys.executable, [sys.executable, '-c', DISPOSITIONS])\n"
        "with catch_faults():\n    misbehave.write_then_call(region.address, 9, functools.partial(os.execv, *program))",
        "in a thread": f"with catch_faults():\n    threading.Thread(target=lambda: {execute}).start()\n"
        "    signal.pause()",
    }[when]
    child = run_child(f"""{SETUP}
DISPOSITIONS = {DISPOSITIONS!r}
raises()
{act}
""", python=("-Xfaulthandler",) if stack else ())  # fmt: skip
    assert printed(child) == CLEAN


def test_a_blocked_signal_stays_blocked_across_exec_and_an_ignored_one_does_not_stay_ignored(
    run_child: RunChild,
) -> None:
    """The kernel resets what is handled, and while memory is protected the signal is handled."""
    child = run_child(f"""{SETUP}
import subprocess
DISPOSITIONS = {DISPOSITIONS!r}
def started():
    return subprocess.run({PROGRAM}, stdout=subprocess.PIPE, text=True).stdout.strip()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGBUS])
print(started())
signal.signal(signal.SIGSEGV, signal.SIG_IGN)
print(started())
print(raises())
print(started())
region.close()
print(started())
""")
    assert printed(child).splitlines() == [
        "[] [] ['SIGBUS'] []",
        "[] ['SIGSEGV'] ['SIGBUS'] []",
        "True",
        "[] [] ['SIGBUS'] []",
        "[] ['SIGSEGV'] ['SIGBUS'] []",
    ]


def test_a_program_started_with_a_blocked_signal_may_unblock_it(run_child: RunChild) -> None:
    child = run_child(f"""
import os, signal, subprocess, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGSEGV])
program = {SETUP!r} + "\\nsignal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGSEGV])\\nprint(raises())"
print(subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True).stdout.strip())
""")
    assert printed(child) == "True"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS], ids=lambda number: number.name)
def test_what_is_sent_to_a_started_program_kills_that_program(run_child: RunChild, number: signal.Signals) -> None:
    child = run_child(f"""{SETUP}
import subprocess
with catch_faults():
    other = subprocess.Popen(["sleep", "60"])
    other.send_signal({number.value})
    print(other.wait() == -{number.value}, raises())
""")
    assert printed(child) == "True True"
