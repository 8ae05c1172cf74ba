"""Handlers that a C library installs for SIGSEGV and SIGBUS, before ours and after: both recover what is theirs."""

import signal
import subprocess
from collections.abc import Callable

import pytest

RunChild = Callable[..., subprocess.CompletedProcess[str]]

SETUP = """
import ctypes, faulthandler, os, signal, sys, threading
import foreign_handlers as library, misbehave
from foreign_handlers import SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SA_SIGINFO
from memprot import PAGE_SIZE, Region, FaultError, catch_faults
SEGV = signal.SIGSEGV

def raises():
    "Whether a blocked write in C becomes one FaultError, and the data stays."
    try:
        with catch_faults():
            misbehave.write(region.address + 3, 1)
    except FaultError as fault:
        return (fault.access, fault.offset, fault.others, region.read(0, 4)) == ("write", 3, (), bytes(4))
    return False

def uses(leaves=False, times=3):
    "Whether the library recovers its own faults, each of them with one call of its handler."
    before = library.calls(SEGV)[0]
    results = [library.use() for _ in range(times)]
    return (results, library.calls(SEGV)[0] - before) == ([leaves] * times, times)
"""
REGION = "region = Region(10, 'r--')"
FLAGS = ["SA_SIGINFO", "SA_SIGINFO | SA_ONSTACK", "SA_SIGINFO | SA_NODEFER", "SA_SIGINFO | SA_RESTART"]
ORDERS = {
    "before": "{install}\n{region}",
    "after": "{region}\n{install}",
    "after a scope": "{region}\nraises()\n{install}",
    "with faulthandler below": "faulthandler.enable()\n{install}\n{region}",
    "with faulthandler between": "{install}\nfaulthandler.enable()\n{region}",
    "with an alternate stack, after": "faulthandler.enable()\n{region}\n{install}",
}
WITH_ORDERS = pytest.mark.parametrize(
    "order", [order for name, order in ORDERS.items() if "between" not in name],
    ids=[name for name in ORDERS if "between" not in name],
)  # fmt: skip


def printed(child: subprocess.CompletedProcess[str]) -> str:
    assert child.returncode == 0, (child.returncode, child.stderr)
    return child.stdout.strip()


@WITH_ORDERS
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("kind", ["UNPROTECTS", "SKIPS", "JUMPS"])
def test_a_library_that_recovers_by_itself_goes_on_doing_so(
    run_child: RunChild, kind: str, flags: str, order: str
) -> None:
    install = f"library.install(SEGV, library.{kind}, {flags})"
    child = run_child(f"""{SETUP}
{order.format(install=install, region=REGION)}
leaves = {kind == "JUMPS"}
print(uses(leaves), raises(), uses(leaves), raises(), raises(), uses(leaves))
with catch_faults():
    print(uses(leaves))
region.close()
print(uses(leaves), library.on_top(SEGV))
""")
    assert printed(child) == "True True True True True True\nTrue\nTrue True"


@WITH_ORDERS
@pytest.mark.parametrize("install", [
    "library.install(SEGV, library.UNPROTECTS, 0)", "library.install_old_style(SEGV, library.UNPROTECTS)",
    "library.install(SEGV, library.UNPROTECTS, SA_RESTART | SA_ONSTACK)",
], ids=["sigaction", "signal", "with flags"])  # fmt: skip
def test_a_handler_without_details_is_called_as_well(run_child: RunChild, install: str, order: str) -> None:
    child = run_child(f"""{SETUP}
{order.format(install=install, region=REGION)}
print(uses(), raises(), uses(), raises(), uses())
""")
    assert printed(child) == "True True True True True"


@pytest.mark.parametrize("order", ["before", "after a scope"])
@pytest.mark.parametrize("flags", ["SA_SIGINFO", "SA_SIGINFO | SA_NODEFER", "SA_SIGINFO | SA_ONSTACK"])
def test_a_library_that_asks_its_predecessor_gets_an_answer_in_either_order(
    run_child: RunChild, flags: str, order: str
) -> None:
    """Its handler comes first until the next scope begins, and calls ours: nothing is lost in between."""
    install = f"library.install(SEGV, library.CHAINS, {flags})"
    child = run_child(f"""{SETUP}
{ORDERS[order].format(install=install, region=REGION)}
with catch_faults() as scope:
    {"library.install(SEGV, library.CHAINS, " + flags + ")" if order == "after a scope" else "pass"}
    try:
        misbehave.write(region.address + 3, 1)
    except FaultError:
        pass
print(len(scope.faults), raises(), raises(), region.read(0, 4) == bytes(4))
print(signal.pthread_sigmask(signal.SIG_BLOCK, []) == set())
""")
    assert printed(child) == "1 True True True\nTrue"


@pytest.mark.parametrize("kind", ["CHAINS", "WITHDRAWS"])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_fault_that_is_nobodys_ends_the_process_once_all_were_asked(
    run_child: RunChild, order: str, kind: str
) -> None:
    install = f"library.install(SEGV, library.{kind}, SA_SIGINFO)"
    child = run_child(
        f"""{SETUP}
{order.format(install=install, region=REGION)}
print(raises(), raises(), flush=True)
misbehave.null_write()
""",
        timeout=30,
    )
    assert (child.returncode, child.stdout) == (-signal.SIGSEGV, "True True\n")
    assert child.stderr.count("Fatal Python error") == ("faulthandler" in order)


@pytest.mark.parametrize("order", ["before", "after a scope"])
def test_a_fault_on_our_memory_is_told_once_where_ours_is_asked_last(run_child: RunChild, order: str) -> None:
    """Where the library comes last it may recover, and when it does not, it ends the process itself."""
    install = "library.install(SEGV, library.CHAINS, SA_SIGINFO)"
    child = run_child(f"""{SETUP}
{ORDERS[order].format(install=install, region=REGION)}
raises()
misbehave.write(region.address, 1)
""")
    assert child.returncode == -signal.SIGSEGV
    assert child.stderr.count("memprot: fatal write of 1 byte") == (order != "before")


@pytest.mark.parametrize("order", ["before", "after a scope"])
@pytest.mark.parametrize("flags", ["SA_SIGINFO", "0", "SA_NODEFER"])
def test_a_handler_for_one_time_is_called_once(run_child: RunChild, flags: str, order: str) -> None:
    install = f"library.install(SEGV, library.COUNTS, SA_RESETHAND | {flags})"
    child = run_child(
        f"""{SETUP}
{ORDERS[order].format(install=install, region=REGION)}
print(raises(), raises(), library.calls(SEGV)[0])
os.kill(os.getpid(), SEGV)
print(library.calls(SEGV)[0], raises(), flush=True)
os.kill(os.getpid(), SEGV)
print("alive")
""",
        timeout=30,
    )
    assert (child.returncode, child.stdout) == (-signal.SIGSEGV, "True True 0\n1 True\n")


@pytest.mark.parametrize("order", ["before", "after a scope"])
@pytest.mark.parametrize("flags", ["SA_SIGINFO", "SA_SIGINFO | SA_NODEFER", "0"])
def test_a_handler_that_dies_by_its_own_hand_dies(run_child: RunChild, flags: str, order: str) -> None:
    """It puts back whom it found, and raises the signal: who was found may be ours, or what the kernel does."""
    install = f"library.install(SEGV, library.DIES, {flags})"
    child = run_child(
        f"""{SETUP}
{ORDERS[order].format(install=install, region=REGION)}
print(raises(), flush=True)
os.kill(os.getpid(), SEGV)
""",
        timeout=30,
    )
    assert (child.returncode, child.stdout) == (-signal.SIGSEGV, "True\n")


@pytest.mark.parametrize("number", ["SIGSEGV", "SIGBUS"])
@pytest.mark.parametrize("order", ["before", "after", "after a scope"])
def test_what_is_sent_reaches_the_library_and_nobody_else(run_child: RunChild, order: str, number: str) -> None:
    install = f"library.install(signal.{number}, library.COUNTS, SA_SIGINFO)"
    child = run_child(f"""{SETUP}
{ORDERS[order].format(install=install, region=REGION)}
for _ in range(5):
    os.kill(os.getpid(), signal.{number})
    raises()
print(library.calls(signal.{number}), raises())
with catch_faults() as scope:
    os.kill(os.getpid(), signal.{number})
print(library.calls(signal.{number}), scope.faults)
""")
    assert printed(child) == "(5, 5) True\n(6, 6) ()"


@pytest.mark.parametrize("flags", ["SA_RESTART", "0"])
def test_a_system_call_is_interrupted_or_restarted_as_the_library_asked(run_child: RunChild, flags: str) -> None:
    """With SA_RESTART the C library's read(2) does not return before there is something to read."""
    child = run_child(f"""{SETUP}
import time
library.install(SEGV, library.COUNTS, SA_SIGINFO | {flags})
{REGION}
read, write = os.pipe()
main = threading.get_native_id()
def interrupt():
    status = f"/proc/self/task/{{main}}/stat"
    while ") S " not in open(status).read():
        time.sleep(0.001)
    signal.pthread_kill(threading.main_thread().ident, SEGV)
    while library.calls(SEGV)[0] == 0:
        time.sleep(0.001)
    os.write(write, b"x")
thread = threading.Thread(target=interrupt)
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(1)
thread.start()
print(libc.read(read, buffer, 1), raises())
thread.join()
""")
    assert printed(child) == ("1 True" if flags == "SA_RESTART" else "-1 True")
