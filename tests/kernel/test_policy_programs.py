"""Policies in programs of their own: deaths that were asked for, forks, and the end of the process."""

import signal
import subprocess
from collections.abc import Callable

import pytest

from memprot import PAGE_SIZE

RunChild = Callable[..., subprocess.CompletedProcess[str]]

SETUP = """
import gc, logging, os, sys, threading, warnings
import misbehave
warnings.simplefilter("ignore", DeprecationWarning)  # of forks in programs with threads
logging.disable()  # it is told on standard error otherwise
from memprot import PAGE_SIZE, FaultError, Region, catch_faults, guarded
from memprot.faults import set_policy
from memprot.faults.engine import add_listener
"""

ABORTS = {
    "region": "region.policy = 'abort'\nmisbehave.write(region.address, 1)",
    "scope": "with catch_faults('abort'):\n    misbehave.write(region.address, 1)",
    "process": "set_policy('abort')\nmisbehave.write(region.address, 1)",
    "callable": "with catch_faults(lambda fault: 'abort'):\n    misbehave.write(region.address, 1)\n    len([])",
    "callable in a thread": """
def work():
    with catch_faults(lambda fault: "abort"):
        misbehave.write(region.address, 1)
thread = threading.Thread(target=work)
thread.start()
thread.join()
""",
}


@pytest.mark.parametrize("how", ABORTS)
def test_abort_reports_and_dies_of_the_signal(run_child: RunChild, how: str) -> None:
    program = f"{SETUP}\nregion = Region(10, 'r--')\n{ABORTS[how]}\nprint('survived')"
    child = run_child(program)
    assert (child.returncode, child.stdout) == (-signal.SIGSEGV, "")
    assert "write" in child.stderr
    assert "<string>" in child.stderr


def test_the_default_is_to_die_also_after_a_scope_with_another_policy(run_child: RunChild) -> None:
    program = f"""{SETUP}
region = Region(10, "r--")
with catch_faults("log"):
    misbehave.write(region.address, 1)
print(region[0], flush=True)
misbehave.write(region.address, 1)
"""
    child = run_child(program)
    assert (child.returncode, child.stdout) == (-signal.SIGSEGV, "1\n")


def test_what_was_logged_last_is_told_when_the_process_ends(run_child: RunChild) -> None:
    program = f"""{SETUP}
region = Region(PAGE_SIZE)
view = memoryview(region)
region.protect("r--")
add_listener(lambda record: print(record.access, record.address - region.address, flush=True))
set_policy("log")
def work():
    view[7] = 1
thread = threading.Thread(target=work)
thread.start()
thread.join()
view[8] = 1"""
    child = run_child(program)
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout.splitlines()[0] == "write 7"


def test_a_fork_inside_scopes_keeps_their_policies(run_child: RunChild) -> None:
    program = f"""{SETUP}
region = Region(3 * PAGE_SIZE)
region.protect("r--")
other = catch_faults("discard")
thread = threading.Thread(target=other.__enter__)
thread.start()
thread.join()
with catch_faults("log") as outer:
    misbehave.write(region.address, 1)
    with catch_faults(lambda fault: "log") as inner:
        pid = os.fork()
        misbehave.write(region.address + PAGE_SIZE, 2)
        len([])
    misbehave.write(region.address + 2 * PAGE_SIZE, 3)
good = region[0] == 1 and region[PAGE_SIZE] == 2 and region[2 * PAGE_SIZE] == 3
good = good and len(inner.faults) == 1 and len(outer.faults) == 2 and str(region.prot) == "r--"
if pid == 0:
    try:
        with catch_faults():
            misbehave.write(region.address, 9)
    except FaultError:
        os._exit(0 if good else 3)
    os._exit(4)
print(good, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
other.__exit__(None, None, None)
"""
    child = run_child(program)
    assert (child.stdout, child.stderr, child.returncode) == ("True 0\n", "", 0)


def test_a_fork_inside_a_callable_leaves_both_sides_at_work(run_child: RunChild) -> None:
    program = f"""{SETUP}
region = Region(2 * PAGE_SIZE)
region.protect("r--")
children = []
def ask(fault):
    children.append(os.fork())
    return "log"
with catch_faults(ask):
    misbehave.write(region.address, 1)
    len([])
good = str(region.prot) == "r--"
try:
    with catch_faults():
        misbehave.write(region.address + PAGE_SIZE, 1)
    good = False
except FaultError:
    good = good and region[PAGE_SIZE] == 0
if children[0] == 0:
    os._exit(0 if good else 3)
print(good, region[0], os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
"""
    child = run_child(program)
    assert (child.stdout, child.stderr, child.returncode) == ("True 1 0\n", "", 0)


def test_scopes_with_faults_are_collected(run_child: RunChild) -> None:
    program = f"""{SETUP}
region = Region(10, "r--")
def work():
    scope = catch_faults()
    try:
        with scope:
            misbehave.write(region.address, 1)
    except FaultError as fault:
        kept = fault  # its traceback leads here, and so to the scope
def ask():
    scope = catch_faults(lambda fault: (scope.faults, "discard")[1])
    with scope:
        misbehave.write(region.address, 1)
def count():
    gc.collect()
    return sum(isinstance(one, (catch_faults, FaultError)) for one in gc.get_objects())
for _ in range(50):
    work()
    ask()
print(count())
"""
    child = run_child(program)
    assert (child.stdout, child.stderr) == ("0\n", "")


def test_a_generator_that_is_given_up_ends_its_scope(run_child: RunChild) -> None:
    program = f"""{SETUP}
region = Region(PAGE_SIZE)
region.protect("r--")
def numbers():
    with catch_faults("log"):
        yield 1
numbers_of_mine = numbers()
next(numbers_of_mine)
misbehave.write(region.address, 1)
del numbers_of_mine
gc.collect()
scope = catch_faults("log")
scope.__enter__()
del scope
print(region[0], flush=True)
misbehave.write(region.address, 2)
"""
    child = run_child(program)
    assert (child.returncode, child.stdout) == (-signal.SIGSEGV, "1\n")


def test_policies_while_threads_fault_and_others_change_them(run_child: RunChild) -> None:
    """Every write is blocked, kept or discarded as one of the policies says; nothing is lost, nothing dies."""
    program = f"""{SETUP}
regions = [Region(4 * PAGE_SIZE, shared=index % 2 == 0) for index in range(4)]
for region in regions:
    region.protect("r--")
stop = threading.Event()
counts = [0] * 4
def work(index):
    region = regions[index]
    while not stop.is_set():
        try:
            with catch_faults(("raise", "log", "discard", lambda fault: "log")[index]):
                misbehave.set(region.address + 10, 1, 2 * PAGE_SIZE, gil=index % 2 == 0)
        except FaultError:
            pass
        counts[index] += 1
def change():
    while not stop.is_set():
        for policy in ("raise", "log", "discard", None):
            regions[3].policy = policy
threads = [threading.Thread(target=work, args=(index,)) for index in range(4)] + [threading.Thread(target=change)]
for thread in threads:
    thread.start()
children = []
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    children.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.wait(1)
stop.set()
for thread in threads:
    thread.join()
bytes_at = [region[10:12] for region in regions]
print(min(counts) > 0, bytes_at[:3] == [bytes(2), b"\\1\\1", bytes(2)], set(children))
print([str(region.prot) for region in regions])
"""
    child = run_child(program)
    assert (child.stdout, child.stderr) == ("True True {0}\n['r--', 'r--', 'r--', 'r--']\n", "")


def test_a_callable_may_close_the_memory_and_meet_faults_of_its_own(run_child: RunChild) -> None:
    program = f"""{SETUP}
region, other = Region(PAGE_SIZE, "r--"), Region(2 * PAGE_SIZE, "r--")
depth = []
def ask(fault):
    depth.append(fault.region is region)
    if fault.region is region:
        region.close()
        with catch_faults(lambda fault: "log"):
            misbehave.write(other.address, 1)
        try:
            with catch_faults():
                misbehave.write(other.address + PAGE_SIZE, 1)
        except FaultError as fault:
            depth.append(fault.offset)
    return "log"
with catch_faults(ask):
    misbehave.write(region.address, 1)
    len([])
print(depth, region.closed, other[0], other[PAGE_SIZE])
"""
    child = run_child(program)
    assert (child.stdout, child.stderr, child.returncode) == (f"[True, {PAGE_SIZE}] True 1 0\n", "", 0)
