"""A Region whose remembered protection is not the kernel's: its accessors raise, whoever handles or blocks signals."""

import subprocess
from collections.abc import Callable

import pytest

RunChild = Callable[..., subprocess.CompletedProcess[str]]

SETUP = """
import faulthandler, os, signal, sys, tempfile, threading
from memprot import FaultError, PAGE_SIZE, Region, calls
file = tempfile.TemporaryFile()
file.truncate(2 * PAGE_SIZE)
shorter = Region.from_file(file, "rw-")
file.truncate(PAGE_SIZE)
changed = Region(2 * PAGE_SIZE)
calls.mprotect(changed.address + PAGE_SIZE, PAGE_SIZE, 0)

def causes(region):
    for act in (
        lambda: region[PAGE_SIZE],
        lambda: region[PAGE_SIZE - 5 : PAGE_SIZE + 5],
        lambda: region[PAGE_SIZE - 1 :: 1000],
        lambda: region.read(PAGE_SIZE - 5),
        lambda: region.__setitem__(PAGE_SIZE, 1),
        lambda: region.__setitem__(slice(PAGE_SIZE - 5, PAGE_SIZE + 5), bytes(10)),
        lambda: region.write(PAGE_SIZE - 5, bytes(10)),
    ):
        try:
            act()
        except FaultError as fault:
            yield fault.cause, fault.transferred

def show():
    for region in (shorter, changed):
        print(*[f"{cause} {transferred}" for cause, transferred in causes(region)], sep=", ")
"""
EXPECTED = [", ".join(f"{cause} {count}" for count in (0, 5, 1, 5, 0, 5, 5)) for cause in ("bus", "protection")]

DISTURBANCES = {
    "nobody": "show()",
    "the default action": """
signal.signal(signal.SIGSEGV, signal.SIG_DFL)
signal.signal(signal.SIGBUS, signal.SIG_DFL)
show()
""",
    "faulthandler": "faulthandler.enable()\nshow()",
    "a blocked signal": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGSEGV, signal.SIGBUS})\nshow()",
    "a thread that inherits blocked signals": """
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGSEGV, signal.SIGBUS})
thread = threading.Thread(target=show)
thread.start()
thread.join()
""",
    "a thread that blocks them itself": """
def act():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGSEGV, signal.SIGBUS})
    show()
thread = threading.Thread(target=act)
thread.start()
thread.join()
""",
    "signals that were blocked for a while": """
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGSEGV, signal.SIGBUS})
shorter[0]
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGSEGV, signal.SIGBUS})
show()
""",
    "a forked child": """
signal.signal(signal.SIGSEGV, signal.SIG_DFL)
if os.fork() == 0:
    show()
    sys.stdout.flush()
    os._exit(0)
os.wait()
""",
}


@pytest.mark.parametrize("who", DISTURBANCES)
def test_accessors_raise_whoever_has_to_do_with_signals(run_child: RunChild, who: str) -> None:
    done = run_child(SETUP + DISTURBANCES[who])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == EXPECTED


def test_a_handler_that_came_later_still_gets_what_is_not_memprots(run_child: RunChild) -> None:
    done = run_child(f"{SETUP}\nfaulthandler.enable()\nshow()\nsys.stdout.flush()\nfaulthandler._sigsegv()")
    assert done.returncode == -11
    assert done.stdout.splitlines() == EXPECTED
    assert "Fatal Python error: Segmentation fault" in done.stderr
