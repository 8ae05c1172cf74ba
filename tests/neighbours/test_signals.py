"""Python's own use of signals: handlers, masks, waiting, the wake-up descriptor."""

import signal
import subprocess
from collections.abc import Callable

import pytest
from neighbour import SETUP, printed

RunChild = Callable[..., subprocess.CompletedProcess[str]]
WITH_BOTH = pytest.mark.parametrize("number", ["SIGSEGV", "SIGBUS"])


@WITH_BOTH
@pytest.mark.parametrize("order", ["before", "after", "inside"])
def test_a_handler_of_pythons_gets_what_is_sent(run_child: RunChild, order: str, number: str) -> None:
    install = {order: f"signal.signal(signal.{number}, handler)"}
    child = run_child(f"""
import signal
came = []
def handler(signum, frame):
    came.append(signum)
{install.get("before", "")}
{SETUP}
{install.get("after", "")}
def send():
    signal.raise_signal(signal.{number})
    return came.pop() == signal.{number}
with catch_faults() as scope:
    {install.get("inside", "pass")}
    print(raises(), send(), raises(), raises())
print(send(), raises(), send(), scope.faults, came)
region.close()
print(send(), signal.getsignal(signal.{number}) is handler)
""")
    assert printed(child) == "True True True True\nTrue True True () []\nTrue True"


@WITH_BOTH
def test_an_ignored_signal_stays_ignored_and_a_default_one_deadly(run_child: RunChild, number: str) -> None:
    child = run_child(f"""{SETUP}
signal.signal(signal.{number}, signal.SIG_IGN)
signal.raise_signal(signal.{number})
print(raises())
signal.raise_signal(signal.{number})
signal.signal(signal.{number}, signal.SIG_DFL)
print(raises(), flush=True)
signal.raise_signal(signal.{number})
print("alive")
""")
    assert (child.returncode, child.stdout) == (-getattr(signal, number), "True\nTrue\n")


def test_a_handler_that_raises_ends_what_was_waiting(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
def handler(*_):
    raise InterruptedError("sent")
signal.signal(signal.SIGSEGV, handler)
for _ in range(3):
    try:
        with catch_faults():
            os.kill(os.getpid(), signal.SIGSEGV)
            signal.pause()
    except InterruptedError as error:
        print(error, raises())
""")
    assert printed(child) == "sent True\n" * 2 + "sent True"


def test_the_wakeup_descriptor_tells_of_what_is_sent_and_not_of_faults(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
read, write = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(write)
signal.signal(signal.SIGSEGV, lambda *_: None)
print(raises(), raises(gil=False))
os.kill(os.getpid(), signal.SIGSEGV)
os.kill(os.getpid(), signal.SIGSEGV)
print(raises(), set(os.read(read, 100)) == {{signal.SIGSEGV}})
try:
    os.read(read, 1)
except BlockingIOError:
    print(raises())
""")
    assert printed(child) == "True True\nTrue True\nTrue"


def test_other_signals_may_be_blocked_while_faults_are_recovered(run_child: RunChild) -> None:
    """The mask is the thread's own afterwards; what was blocked comes when it is unblocked."""
    child = run_child(f"""{SETUP}
others = signal.valid_signals() - {{signal.SIGSEGV, signal.SIGBUS}}
came = []
signal.signal(signal.SIGUSR1, lambda *_: came.append(1))
before = signal.pthread_sigmask(signal.SIG_BLOCK, others)
mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
os.kill(os.getpid(), signal.SIGUSR1)
print(raises(), raises(gil=False), came, signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask)
signal.pthread_sigmask(signal.SIG_SETMASK, before)
print(came, raises(), signal.pthread_sigmask(signal.SIG_BLOCK, []) == before)
""")
    assert printed(child) == "True True [] True\n[1] True True"


@WITH_BOTH
def test_a_blocked_signal_that_was_sent_can_be_waited_for(run_child: RunChild, number: str) -> None:
    child = run_child(f"""{SETUP}
print(raises())
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.{number}])
os.kill(os.getpid(), signal.{number})
print(signal.sigpending() == {{signal.{number}}}, signal.sigwait([signal.{number}]) == signal.{number})
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.{number}])
print(raises())
""")
    assert printed(child) == "True\nTrue True\nTrue"


BLOCK = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGSEGV])"


def test_where_the_thread_has_the_signal_blocked_the_kernel_kills(run_child: RunChild) -> None:
    """It calls no handler then, whoever installed it."""
    child = run_child(f"{SETUP}\n{BLOCK}\nwith catch_faults():\n    misbehave.write(region.address, 1)")
    assert (child.returncode, child.stderr) == (-signal.SIGSEGV, "")


def test_accessors_need_no_signal(run_child: RunChild) -> None:
    act = "try:\n    region[5] = 1\nexcept FaultError as fault:\n    print(fault.offset)"
    child = run_child(f"{SETUP}\n{BLOCK}\n{act}")
    assert printed(child) == "5"
