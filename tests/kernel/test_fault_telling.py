"""Faults that nobody raises are told: by logging, or by sys.unraisablehook."""

import logging
import subprocess
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults
from memprot.faults import engine, history, set_policy

RunChild = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def back_to_death() -> Iterator[None]:
    yield
    engine.drain()
    set_policy("die")
    history(clear=True)


def discard(fault: FaultError) -> None:
    """A policy that decides afterwards."""


@pytest.mark.parametrize("policy", ["discard", discard])
@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
def test_what_is_logged_is_one_warning_with_its_line_and_its_record(
    misbehave: ModuleType, blocked: Region, caplog: pytest.LogCaptureFixture, gil: bool, policy: Any
) -> None:
    set_policy(policy)
    misbehave.write(blocked.address + 9, 1, gil=gil)
    engine.drain()
    (entry,) = caplog.records
    line = test_what_is_logged_is_one_warning_with_its_line_and_its_record.__code__.co_firstlineno + 6
    assert (entry.name, entry.levelno, entry.pathname, entry.lineno) == (
        "memprot.faults", logging.WARNING, __file__, line
    )  # fmt: skip
    assert entry.getMessage() == (
        f"write of 1 byte at {blocked.address + 9:#x}, byte 9 of a Region whose protection forbids it "
        f"({__file__}:{line})"
    )
    assert vars(entry)["fault"] is history()[-1]


def test_what_a_log_policy_lets_happen_is_logged(
    misbehave: ModuleType, caplog: pytest.LogCaptureFixture, shared: bool
) -> None:
    with Region(PAGE_SIZE, "r--", shared=shared, policy="log") as region:
        misbehave.write(region.address + 9, 7)
        engine.drain()
        assert region[9] == 7
    with Region(PAGE_SIZE, "r--", shared=shared) as region, catch_faults(policy="log") as scope:
        misbehave.write(region.address + 8, 7)
    assert [entry.getMessage().partition(" at 0x")[0] for entry in caplog.records] == ["write of 1 byte"] * 2
    assert [vars(entry)["fault"] for entry in caplog.records] == history()
    assert [fault.record for fault in scope.faults] == history()[1:]


def test_what_is_raised_is_not_logged(misbehave: ModuleType, blocked: Region, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    set_policy("raise")
    with pytest.raises(FaultError):
        misbehave.write(blocked.address, 1)
    assert caplog.records == []


def test_a_logger_that_is_turned_off_is_told_nothing(
    misbehave: ModuleType, blocked: Region, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "memprot.faults")
    set_policy("discard")
    misbehave.write(blocked.address, 1)
    engine.drain()
    assert caplog.records == []
    assert len(history()) == 1


def test_a_program_without_a_handler_is_told_nothing_and_one_with_a_handler_everything(run_child: RunChild) -> None:
    done = run_child(
        "import sys, ctypes, memprot\n"
        "from memprot import PAGE_SIZE, Region\n"
        "region = Region(PAGE_SIZE, 'r--', policy='log')\n"
        "def act(): ctypes.memset(region.address, 1, 8); memprot.faults.engine.drain()\n"
        "act()\n"
        "print('logging' in sys.modules)\n"
        "import logging\n"
        "act()\n"
        "logging.basicConfig(format='%(levelname)s %(name)s %(lineno)d %(message).10s')\n"
        "act()\n"
        "print(len(memprot.faults.history()))\n"
    )
    assert (done.stdout, done.stderr) == ("False\n3\n", "WARNING memprot.faults 4 write of 8\n")


def test_a_listener_tells_instead(misbehave: ModuleType, blocked: Region, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[object] = []
    engine.add_listener(heard.append)
    try:
        set_policy("discard")
        misbehave.write(blocked.address, 1)
        engine.drain()
    finally:
        engine.remove_listener(heard.append)
    assert heard == [history()[-1]]
    assert caplog.records == []


def test_a_thread_without_python_is_told_by_the_unraisable_hook(run_child: RunChild) -> None:
    done = run_child(
        "import sys, threading, time, misbehave\n"
        "from memprot import PAGE_SIZE, Region\n"
        "from memprot.faults import engine, history\n"
        # Of several that wait in native code nobody knows whose call it is.
        "for _ in range(2): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
        "told = []\n"
        "sys.unraisablehook = told.append\n"
        "region = Region(PAGE_SIZE, 'r--')\n"
        "engine.set_policy('raise')\n"
        "misbehave.write_from_c_thread(region.address + 5, 7, wait=False)\n"
        "while not told: time.sleep(0.001)\n"
        "(one,) = told\n"
        "print(one.exc_type.__name__, one.exc_value.offset, one.exc_value.native[0].function)\n"
        "thread = one.exc_value.thread\n"
        "print(one.object == f'thread {thread.id} ({thread.name})')\n"
        "sys.unraisablehook = sys.__unraisablehook__\n"
        "misbehave.write_from_c_thread(region.address + 6, 7, wait=False)\n"
        "while len(history()) < 2: time.sleep(0.001)\n"
        "assert region.read(0, 8) == bytes(8)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["FaultError 5 touch_write", "True"]
    assert "Exception ignored in: 'thread " in done.stderr
    assert "memprot.FaultError: write of 1 byte at" in done.stderr


def test_nothing_of_it_is_imported_before_it_is_needed(run_child: RunChild) -> None:
    done = run_child(
        "import sys, ctypes\n"
        "from memprot import PAGE_SIZE, FaultError, Region, catch_faults\n"
        "region = Region(PAGE_SIZE, 'r--')\n"
        "try:\n"
        "    with catch_faults(): ctypes.memset(region.address, 1, 1)\n"
        "except FaultError as fault: str(fault)\n"
        "print({'logging', 'traceback', 'capstone', 'elftools'} & sys.modules.keys())\n"
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")
