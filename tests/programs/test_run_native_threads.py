"""A fault in a thread that never ran Python, with no scope open: whose is it?"""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

pytest.importorskip("numpy")

PROGRAM = """
import ctypes, sys, threading, time
import numpy
import misbehave
from memprot import FaultError

array = numpy.zeros(100)
past = array.ctypes.data + array.nbytes
caught = []

def work(**how):
    try:
        misbehave.write_from_c_thread(past, 1, **how)
        time.sleep(0)
    except FaultError as error:
        caught.append(error)

{body}
print(len(caught), threading.current_thread() is threading.main_thread())
assert not array.any()
"""


@pytest.fixture
def environment(misbehave_path: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(misbehave_path)}


@pytest.mark.parametrize("gil", [False, True], ids=["without the GIL", "with the GIL"])
def test_it_is_raised_in_the_one_thread_that_waits_inside_native_code(
    runner: "Runner", environment: dict[str, str], gil: bool
) -> None:
    done = runner.watch(runner.script(PROGRAM.format(body=f"work(gil={gil})")), environment=environment)
    assert (done.status, done.stdout) == (0, "1 True\n"), done.stderr
    fault = done.fault
    assert (fault["kind"], fault["distance"], fault["recovered"]) == ("overflow", 0, True)
    assert [frame["function"] for frame in fault["python"]] == ["work", "<module>"]
    assert fault["native"][0]["function"] == "touch_write"
    assert fault["object"]["name"] == "array"


def test_it_is_raised_in_the_worker_thread_that_waits(runner: "Runner", environment: dict[str, str]) -> None:
    body = (
        "looping, done = [], []\n"
        "def run():\n    while not looping: pass\n    work()\n    done.append(1)\n"
        "threading.Thread(target=run).start()\n"
        "looping.append(1)\n"
        "while not done: pass\n"
    )
    done = runner.watch(runner.script(PROGRAM.format(body=body)), environment=environment)
    assert (done.status, done.stdout) == (0, "1 True\n"), done.stderr
    assert [frame["function"] for frame in done.fault["python"]][:2] == ["work", "run"]


def test_it_is_only_reported_when_two_threads_wait_inside_native_code(
    runner: "Runner", environment: dict[str, str]
) -> None:
    body = "worker = threading.Thread(target=work)\nready = threading.Event()\n"
    body += "def sleep():\n    ready.set()\n    time.sleep(60)\n"
    body += "threading.Thread(target=sleep, daemon=True).start()\nready.wait()\ntime.sleep(0.2)\nwork()\n"
    done = runner.watch(runner.script(PROGRAM.format(body=body)), environment=environment)
    assert (done.status, done.stdout) == (0, "0 True\n"), done.stderr
    fault = done.fault
    assert (fault["python"], fault["recovered"], fault["count"]) == (None, True, 1)
    assert (fault["kind"], fault["distance"]) == ("overflow", 0)
    assert "The program goes on; no byte of the program's data was changed." in done.stderr


def test_it_is_reported_when_nobody_waits_for_the_thread(runner: "Runner", environment: dict[str, str]) -> None:
    body = "work(wait=False)\nstop = time.monotonic() + 0.5\nwhile time.monotonic() < stop: pass\n"
    done = runner.watch(runner.script(PROGRAM.format(body=body)), environment=environment)
    assert done.status == 0, done.stderr
    assert (done.fault["recovered"], done.fault["distance"]) == (True, 0)


def test_log_leaves_the_waiting_thread_alone_and_names_it(runner: "Runner", environment: dict[str, str]) -> None:
    done = runner.watch(
        runner.script(PROGRAM.format(body="work()")), options=["--on-fault", "log"], environment=environment
    )
    assert (done.status, done.stdout) == (0, "0 True\n"), done.stderr
    assert [frame["function"] for frame in done.fault["python"]] == ["work", "<module>"]


def test_a_scope_takes_over_what_a_native_thread_did(runner: "Runner", environment: dict[str, str]) -> None:
    body = (
        "from memprot import catch_faults\n"
        "try:\n    with catch_faults():\n        misbehave.write_from_c_thread(past, 1)\n        inside = True\n"
        "except FaultError:\n    caught.append(inside)\n"
    )
    done = runner.watch(runner.script(PROGRAM.format(body=body)), environment=environment)
    assert (done.status, done.stdout) == (0, "1 True\n"), done.stderr
    assert done.fault["count"] == 1
