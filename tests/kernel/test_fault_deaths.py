"""What cannot be recovered dies of its signal, as it would without memprot, and memprot says what it knows."""

import os
import re
import signal
import subprocess
from collections.abc import Callable

import pytest

RunChild = Callable[..., subprocess.CompletedProcess[str]]

SETUP = """
import sys, os, signal, threading
import misbehave, memprot
from memprot import PAGE_SIZE, Region, FaultError, catch_faults, guarded
"""
KINDS = {
    "private": "memory = Region(4 * PAGE_SIZE, 'r--')",
    "shared": "memory = Region(4 * PAGE_SIZE, 'r--', shared=True)",
    "hidden": "memory = Region(4 * PAGE_SIZE, '---')",
    "hidden shared": "memory = Region(4 * PAGE_SIZE, '---', shared=True)",
    "guard": "class memory: block = guarded(10); address = block.address + 10",
}
WITH_EACH = pytest.mark.parametrize("setup", KINDS.values(), ids=KINDS)
REPORT = re.compile(
    r"memprot: fatal (?P<access>read|write|execution)( of (?P<size>\d+) bytes?)? at (?P<address>0x[0-9a-f]+), .*\n"
)


def last_number(child: subprocess.CompletedProcess[str]) -> int:
    return int(child.stdout.split()[-1])


@WITH_EACH
@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
def test_a_fault_outside_every_scope_is_reported_and_dies(run_child: RunChild, setup: str, gil: bool) -> None:
    act = f"def act():\n    misbehave.write(memory.address, 1, gil={gil})\nact()"
    program = f"{SETUP}{setup}\nprint(memory.address, flush=True)\n{act}"
    child = run_child(program)
    assert child.returncode == -signal.SIGSEGV, child.stderr
    match = REPORT.search(child.stderr)
    assert match is not None, child.stderr
    assert (match["access"], int(match["address"], 16)) == ("write", last_number(child))
    line = len(program.splitlines()) - 1
    assert f'File "<string>", line {line} in act\n' in child.stderr


@WITH_EACH
@pytest.mark.parametrize("scope", [True, False], ids=["in a scope", "outside"])
def test_a_jump_into_data_dies_and_does_not_loop(run_child: RunChild, setup: str, scope: bool) -> None:
    act = "misbehave.jump(memory.address)"
    child = run_child(
        f"{SETUP}{setup}\nprint(memory.address, flush=True)\n" + (f"with catch_faults():\n    {act}" if scope else act)
    )
    assert child.returncode == -signal.SIGSEGV, child.stderr
    match = REPORT.search(child.stderr)
    assert match is not None, child.stderr
    assert (match["access"], int(match["address"], 16)) == ("execution", last_number(child))


@WITH_EACH
def test_a_jump_into_a_page_that_is_open_dies(run_child: RunChild, setup: str) -> None:
    """The decoy, or the removed guard, can be written, but it is no code either."""
    program = f"""{SETUP}{setup}
import functools
with catch_faults():
    misbehave.write_then_call(memory.address, 0xC3, functools.partial(misbehave.jump, memory.address))
"""
    child = run_child(program)
    assert child.returncode == -signal.SIGSEGV, child.stderr
    assert "fatal execution" in child.stderr


@pytest.mark.parametrize("act", ["misbehave.null_write()", "misbehave.read64(8, gil=False)", "misbehave.jump(8)"])
@pytest.mark.parametrize("scope", [True, False], ids=["in a scope", "outside"])
def test_a_foreign_fault_dies_in_silence(run_child: RunChild, act: str, scope: bool) -> None:
    setup = f"{SETUP}region = Region(10)\n"
    child = run_child(setup + (f"with catch_faults():\n    {act}" if scope else act))
    assert (child.returncode, child.stderr) == (-signal.SIGSEGV, "")


@pytest.mark.parametrize("when", ["before", "after", "between"])
@pytest.mark.parametrize("scope", [True, False], ids=["in a scope", "outside"])
def test_a_foreign_fault_gives_the_dump_of_faulthandler(run_child: RunChild, when: str, scope: bool) -> None:
    enable = "import faulthandler\nfaulthandler.enable()\n"
    region = "region = Region(10)\n"
    setup = {
        "before": enable + SETUP + region,
        "after": SETUP + region + enable,
        "between": SETUP + region + "with catch_faults():\n    pass\n" + enable + "with catch_faults():\n    pass\n",
    }[when]
    act = "misbehave.null_write()"
    child = run_child(setup + (f"with catch_faults():\n    {act}" if scope else act))
    assert child.returncode == -signal.SIGSEGV
    assert child.stderr.count("Fatal Python error: Segmentation fault") == 1
    assert "memprot" not in child.stderr
    assert 'File "<string>"' in child.stderr


def test_a_fault_on_our_memory_gives_both_reports(run_child: RunChild) -> None:
    act = "region = Region(10, 'r--')\nmisbehave.write(region.address, 1)"
    child = run_child(f"{SETUP}{act}", python=("-Xfaulthandler",))
    assert child.returncode == -signal.SIGSEGV
    assert child.stderr.index("memprot: fatal write") < child.stderr.index("Fatal Python error: Segmentation fault")


@pytest.mark.parametrize("scope", [True, False], ids=["in a scope", "outside"])
def test_where_faulthandler_was_disabled_again_a_fault_still_dies(run_child: RunChild, scope: bool) -> None:
    """Its handler is still known as the next one, and returns as if nothing had happened."""
    act = "misbehave.null_write()"
    child = run_child(
        f"{SETUP}import faulthandler\nregion = Region(10)\nfaulthandler.enable()\nwith catch_faults():\n    pass\n"
        "faulthandler.disable()\n" + (f"with catch_faults():\n    {act}" if scope else act),
        timeout=30,
    )
    assert child.returncode == -signal.SIGSEGV


@pytest.mark.parametrize("python", [(), ("-Xfaulthandler",)], ids=["plain", "faulthandler"])
@pytest.mark.parametrize(
    "send", ["os.kill(os.getpid(), signal.SIGSEGV)", "misbehave.raise_signal(signal.SIGSEGV)",
             "signal.pthread_kill(threading.get_ident(), signal.SIGSEGV)"],
)  # fmt: skip
@pytest.mark.parametrize("scope", [True, False], ids=["in a scope", "outside"])
def test_a_signal_that_was_sent_kills(run_child: RunChild, python: tuple[str, ...], send: str, scope: bool) -> None:
    setup = f"{SETUP}region = Region(10, 'r--')\n"
    child = run_child(setup + (f"with catch_faults():\n    {send}" if scope else send), python=python)
    assert child.returncode == -signal.SIGSEGV
    assert ("Fatal Python error" in child.stderr) == bool(python)
    assert "memprot: " not in child.stderr


def test_a_python_handler_gets_what_is_sent_and_not_what_is_recovered(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
signal.signal(signal.SIGSEGV, lambda *_: print("handler"))
region = Region(10, "r--")
os.kill(os.getpid(), signal.SIGSEGV)
try:
    with catch_faults():
        misbehave.write(region.address, 1)
except FaultError:
    print("fault")
os.kill(os.getpid(), signal.SIGSEGV)
region.close()
os.kill(os.getpid(), signal.SIGSEGV)
signal.signal(signal.SIGSEGV, signal.SIG_IGN)
os.kill(os.getpid(), signal.SIGSEGV)
region = Region(10, "r--")
os.kill(os.getpid(), signal.SIGSEGV)
print("alive")
""")
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == ["handler", "fault", "handler", "handler", "alive"]


def test_with_the_signal_blocked_the_kernel_kills(run_child: RunChild) -> None:
    child = run_child(
        f"{SETUP}region = Region(10, 'r--')\nwith catch_faults():\n"
        "    misbehave.write_with_signals_blocked(region.address, 1)"
    )
    assert child.returncode == -signal.SIGSEGV


@pytest.mark.parametrize("thread", [True, False], ids=["thread", "main"])
@pytest.mark.parametrize("python", [(), ("-Xfaulthandler",)], ids=["plain", "faulthandler"])
def test_a_stack_overflow_dies(run_child: RunChild, thread: bool, python: tuple[str, ...]) -> None:
    act = "threading.Thread(target=misbehave.overflow_stack).start()" if thread else "misbehave.overflow_stack()"
    wait = "import time; time.sleep(20)"
    child = run_child(f"{SETUP}region = Region(10)\nwith catch_faults():\n    {act}\n    {wait}", python=python)
    assert child.returncode == -signal.SIGSEGV


def test_after_the_last_scope_a_fault_dies_again(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
region = Region(10, "r--")
scope = catch_faults()
for _ in range(3):
    try:
        with catch_faults(), scope:
            misbehave.write(region.address, 1)
    except FaultError:
        print("raised", flush=True)
def work():
    try:
        with catch_faults():
            misbehave.write(region.address, 1, gil=False)
    except FaultError:
        print("raised", flush=True)
thread = threading.Thread(target=work)
thread.start()
thread.join()
abandoned = catch_faults()
abandoned.__enter__()
del abandoned
misbehave.write(region.address, 1)
print("alive")
""")
    assert child.returncode == -signal.SIGSEGV
    assert child.stdout.split() == ["raised"] * 4
    assert "memprot: fatal write" in child.stderr


def test_a_fault_while_python_shuts_down_dies_of_it(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
import atexit
region = Region(10, "r--")
atexit.register(misbehave.write, region.address, 1)
""")
    assert child.returncode == -signal.SIGSEGV
    assert "memprot: fatal write" in child.stderr


@pytest.mark.parametrize("setup", [KINDS["private"], KINDS["shared"]], ids=["private", "shared"])
def test_where_no_further_mapping_may_be_made_it_recovers_or_dies_with_a_report(
    run_child: RunChild, setup: str
) -> None:
    """Letting the access through may have to split a mapping, which the kernel refuses; it never hangs."""
    child = run_child(f"""{SETUP}{setup}
from memprot import Prot, calls
from memprot.flags import MapFlag
with open("/proc/sys/vm/max_map_count") as file:
    most = int(file.read())
if most > 300_000:
    sys.exit(0)
with catch_faults():  # everything that is needed later has been used once
    try:
        misbehave.write(memory.address + PAGE_SIZE, 1)
    except FaultError:
        pass
start = calls.mmap(0, 2 * most * PAGE_SIZE, Prot.NONE, MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.NORESERVE)
try:
    for index in range(most):
        calls.mprotect(start + 2 * index * PAGE_SIZE, PAGE_SIZE, Prot.READ)
except OSError:
    try:
        with catch_faults():
            misbehave.write(memory.address + PAGE_SIZE, 1)
    except FaultError:
        os._exit(memory[PAGE_SIZE])
    os._exit(1)
""")
    assert child.returncode in (0, -signal.SIGSEGV)
    if child.returncode:
        assert "memprot: fatal write" in child.stderr


def test_the_standard_error_may_be_closed(run_child: RunChild) -> None:
    child = run_child(f"{SETUP}region = Region(10, 'r--')\nos.close(2)\nmisbehave.write(region.address, 1)")
    assert (child.returncode, child.stderr) == (-signal.SIGSEGV, "")


def test_a_crowd_of_threads_that_fault_outside_every_scope_dies_once(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
region = Region(10, "r--")
barrier = threading.Barrier(8)
def work():
    barrier.wait()
    misbehave.write(region.address, 1, gil=False)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
""")
    assert child.returncode == -signal.SIGSEGV
    assert child.stderr.count("memprot: fatal") == 1
    assert os.linesep in child.stderr
