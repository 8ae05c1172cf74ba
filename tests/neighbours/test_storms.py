"""SIGSEGV and SIGBUS sent without a pause: nothing dies of it, and faults are recovered meanwhile."""

import signal
import subprocess
from collections.abc import Callable

import pytest

RunChild = Callable[..., subprocess.CompletedProcess[str]]

SETUP = """
import faulthandler, os, signal, sys, threading
import foreign_handlers, misbehave
from memprot import PAGE_SIZE, Region, FaultError, catch_faults

number, count = getattr(signal, sys.argv[1]), int(sys.argv[2])
region = Region(64 * PAGE_SIZE)
region[:] = b"\\5" * region.size
region.protect("r--")
good = 0
def fault(index):
    global good
    try:
        with catch_faults():
            misbehave.set(region.address + index % 60 * PAGE_SIZE, 1, 3 * PAGE_SIZE, gil=index % 2 == 0)
    except FaultError as error:
        good += error.offset == index % 60 * PAGE_SIZE and not error.others
"""
END = """
print(faults > 0 and good == faults, region.read() == b"\\5" * region.size)
"""
BELOW = {
    "Python's": "signal.signal(number, lambda *_: None)",
    "ignored": "signal.signal(number, signal.SIG_IGN)",
    "C's": "foreign_handlers.install(number, foreign_handlers.COUNTS, foreign_handlers.SA_SIGINFO)",
    "C's on its stack": "faulthandler.enable(); foreign_handlers.install(number, foreign_handlers.COUNTS, "
    "foreign_handlers.SA_SIGINFO | foreign_handlers.SA_ONSTACK)",
    "Python's above faulthandler": "faulthandler.enable(); signal.signal(number, lambda *_: None)",
}


@pytest.mark.parametrize("number", ["SIGSEGV", "SIGBUS"])
@pytest.mark.parametrize("below", BELOW.values(), ids=BELOW)
@pytest.mark.parametrize("first", ["before", "after"])
def test_a_storm_from_another_process_is_survived(run_child: RunChild, below: str, number: str, first: str) -> None:
    setup = f"{SETUP}\n{below}" if first == "after" else SETUP.replace("region = ", f"{below}\nregion = ", 1)
    program = f"""{setup}
sender = foreign_handlers.storm(number, count)
faults = 0
while os.waitpid(sender, os.WNOHANG) == (0, 0):
    fault(faults)
    faults += 1
fault(faults)
faults += 1
{END}"""
    child = run_child(program, number, "30000")
    assert (child.returncode, child.stdout.split()) == (0, ["True", "True"]), child.stderr


@pytest.mark.parametrize("number", ["SIGSEGV", "SIGBUS"])
def test_a_storm_from_another_thread_is_survived(run_child: RunChild, number: str) -> None:
    program = f"""{SETUP}
signal.signal(number, lambda *_: None)
main = threading.get_native_id()
sender = threading.Thread(target=foreign_handlers.send, args=(main, number, count))
sender.start()
faults = 0
while sender.is_alive():
    fault(faults)
    faults += 1
sender.join()
{END}"""
    child = run_child(program, number, "30000")
    assert (child.returncode, child.stdout.split()) == (0, ["True", "True"]), child.stderr


def test_a_storm_onto_threads_that_fault_is_survived(run_child: RunChild) -> None:
    """Each gets its own faults, whoever is hit by what is sent."""
    program = f"""{SETUP}
signal.signal(number, lambda *_: None)
over = threading.Event()
results = []
def work(start):
    mine = good = 0
    while not over.is_set() or not mine:
        try:
            with catch_faults():
                misbehave.write(region.address + start, 1, gil=False)
        except FaultError as error:
            good += error.offset == start
        mine += 1
    results.append(mine == good)
threads = [threading.Thread(target=work, args=(start,)) for start in (0, PAGE_SIZE)]
for thread in threads:
    thread.start()
for thread in threads:
    foreign_handlers.send(thread.native_id, number, count)
os.waitpid(foreign_handlers.storm(number, count), 0)
over.set()
for thread in threads:
    thread.join()
print(results, region.read() == b"\\5" * region.size)
"""
    child = run_child(program, "SIGSEGV", "10000")
    assert (child.returncode, child.stdout) == (0, "[True, True] True\n"), child.stderr


@pytest.mark.parametrize(
    ("flags", "stack"),
    [("SA_SIGINFO", ()), ("SA_SIGINFO", ("-Xfaulthandler",)),
     ("SA_SIGINFO | SA_ONSTACK", ("-Xfaulthandler",))],
    ids=["plain", "above an alternate stack", "on an alternate stack"],
)  # fmt: skip
def test_a_handler_that_leaves_by_a_jump_may_do_so_in_a_storm(
    run_child: RunChild, flags: str, stack: tuple[str, ...]
) -> None:
    """What it has left behind counts for nothing: the next signal, and the next fault, are as the first."""
    program = f"""{SETUP}
from foreign_handlers import SA_NODEFER, SA_ONSTACK, SA_SIGINFO
foreign_handlers.install(number, foreign_handlers.JUMPS, {flags})
fault(0)
sender = foreign_handlers.storm(number, 2**31 - 1)
faults = 1
for _ in range(100):
    foreign_handlers.leave(3)
    fault(faults)
    faults += 1
os.kill(sender, signal.SIGKILL)
os.waitpid(sender, 0)
fault(faults)
faults += 1
{END}"""
    child = run_child(program, "SIGSEGV", "0", python=stack)
    assert (child.returncode, child.stdout.split()) == (0, ["True", "True"]), child.stderr


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS], ids=lambda number: number.name)
def test_one_signal_of_a_storm_kills_where_nobody_handles_it(run_child: RunChild, number: signal.Signals) -> None:
    child = run_child(f"{SETUP}\nos.waitpid(foreign_handlers.storm(number, count), 0)", number.name, "1000")
    assert (child.returncode, child.stderr) == (-number, "")
