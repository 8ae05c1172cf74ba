"""faulthandler: its dumps stay what they are, and what memprot recovers from is not dumped."""

import signal
import subprocess
from collections.abc import Callable

import pytest
from neighbour import SETUP, printed

RunChild = Callable[..., subprocess.CompletedProcess[str]]
FATAL = "Fatal Python error: Segmentation fault"


@pytest.mark.parametrize("when", ["before", "after", "inside", "between"])
def test_faulthandler_enabled_at_any_time_keeps_its_dump(run_child: RunChild, when: str) -> None:
    enable = dict.fromkeys(("before", "after", "inside", "between"), "")
    enable[when] = "import faulthandler; faulthandler.enable()"
    child = run_child(f"""
{enable["before"]}
{SETUP}
{enable["after"]}
print(raises())
{enable["between"]}
with catch_faults():
    {enable["inside"] or "pass"}
    print(raises(), flush=True)
misbehave.null_write()
""")
    assert (child.returncode, child.stdout) == (-signal.SIGSEGV, "True\nTrue\n")
    assert child.stderr.count(FATAL) == 1
    assert "memprot" not in child.stderr


def test_faulthandler_may_be_toggled_while_faults_happen(run_child: RunChild) -> None:
    """Until the next scope begins the handler on top is faulthandler's, so each fault has a scope of its own."""
    child = run_child(f"""{SETUP}
import faulthandler
good = []
for index in range(300):
    faulthandler.enable() if index % 2 else faulthandler.disable()
    good.append(raises(gil=index % 3 == 0))
print(all(good), faulthandler.is_enabled())
""")
    assert printed(child) == "True True"


def test_toggled_by_one_thread_it_does_not_keep_faults_of_another_from_raising(run_child: RunChild) -> None:
    """The engine goes back to the front with every scope, of any thread; memprot run does at once."""
    child = run_child(f"""{SETUP}
import faulthandler
from memprot.run.neighbours import keep_in_front
from memprot.faults.engine import reinstall
keep_in_front(reinstall)
over = threading.Event()
results = []
def work():
    results.extend(raises(gil=False) for _ in range(300))
    over.set()
thread = threading.Thread(target=work)
with catch_faults():  # displaced for a moment only: outside of faults
    thread.start()
    thread.join()
while not over.is_set():
    faulthandler.enable()
    faulthandler.disable()
print(len(results), all(results))
""")
    assert printed(child) == "300 True"


def test_disabled_it_leaves_no_dump_behind(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
import faulthandler
faulthandler.enable()
print(raises(), flush=True)
faulthandler.disable()
misbehave.null_write()
""")
    assert (child.returncode, child.stdout, child.stderr) == (-signal.SIGSEGV, "True\n", "")


@pytest.mark.parametrize("number", ["SIGSEGV", "SIGBUS"])
def test_a_fault_signal_cannot_be_registered_for_a_dump_with_or_without_us(run_child: RunChild, number: str) -> None:
    """faulthandler reserves these for enable()."""
    child = run_child(f"""{SETUP}
import faulthandler
try:
    faulthandler.register(signal.{number})
except RuntimeError as error:
    print(raises(), "enable()" in str(error))
""")
    assert printed(child) == "True True"


def test_dumps_on_another_signal_and_by_timer_go_on(run_child: RunChild) -> None:
    """
    The timer's thread reads the frames of threads that go on, and dies when one ends meanwhile, without memprot too:
    while it dumps, the main thread stays in the frame of the module.
    """
    child = run_child(f"""{SETUP}
import faulthandler, select, tempfile
readable, writable = os.pipe()
with tempfile.TemporaryFile() as on_signal:
    faulthandler.register(signal.SIGUSR1, on_signal)
    good = []
    dumps = b""
    for index in range(6):
        faulthandler.dump_traceback_later(0.01, file=writable)
        if index % 2:
            with catch_faults():
                select.select([readable], [], [])
                faulthandler.cancel_dump_traceback_later()
        else:
            select.select([readable], [], [])
            faulthandler.cancel_dump_traceback_later()
        dumps += os.read(readable, 1 << 16)
        faulthandler.dump_traceback_later(3600, file=writable)
        signal.raise_signal(signal.SIGUSR1)
        good.append(raises())
        faulthandler.cancel_dump_traceback_later()
    on_signal.seek(0)
    print(all(good), dumps.count(b"most recent call first"), on_signal.read().count(b"most recent call first"))
""")
    assert printed(child) == "True 6 6"
