"""A fault that cannot be recovered under ``memprot run``: the whole report, and death by the very signal."""

import platform
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memprot import PAGE_SIZE

if TYPE_CHECKING:
    from tests.programs.conftest import Runner, Watched

PROGRAM = """
import ctypes, mmap, sys, tempfile, threading
import misbehave

def sleep_on():
    started.set()
    threading.Event().wait()

started = threading.Event()
threading.Thread(target=sleep_on, daemon=True).start()
started.wait()
{before}

def break_it():
    {broken}

print("ready", flush=True)
break_it()
print("survived")
"""

SHORTENED = """
    file = tempfile.TemporaryFile()
    file.truncate(2 * mmap.PAGESIZE)
    view = mmap.mmap(file.fileno(), 2 * mmap.PAGESIZE)
    file.truncate(0)
    view[5]
"""

DEATHS = {
    "a write through NULL": ("misbehave.null_write()", "unmapped", "write", "touch_write"),
    "a read through NULL": ("misbehave.read(0)", "unmapped", "read", "touch_read"),
    "a call of NULL": ("misbehave.call(0)", "unmapped", "execute", "touch_by_calling"),
    "a call of data": (
        "data = ctypes.create_string_buffer(64); misbehave.call(ctypes.addressof(data))",
        "protection",
        "execute",
        "touch_by_calling",
    ),
    "a jump into data": (
        "data = ctypes.create_string_buffer(64); misbehave.jump(ctypes.addressof(data))",
        "protection",
        "execute",
        "perform",
    ),
    "a write to machine code": (
        "misbehave.write(ctypes.cast(ctypes.CDLL(None).qsort, ctypes.c_void_p).value, 0)",
        "protection",
        "write",
        "touch_write",
    ),
    "a stack overflow in C": ("misbehave.overflow_stack()", "stack-overflow", "write", "loop_recursion"),
}


@pytest.fixture
def environment(misbehave_path: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(misbehave_path)}


def program(broken: str, before: str = "") -> str:
    return PROGRAM.format(broken=broken, before=before)


def assert_whole_report(done: "Watched", name: str) -> None:
    assert done.stdout == "ready\n"
    assert f"The program dies of {name}, as it would have without memprot." in done.stderr
    assert "mappings around the address" in done.stderr
    assert "registers" in done.stderr
    threads = done.stderr.split("\nPython thread ")[1:]
    assert len(threads) == 2
    (faulting,) = (thread for thread in threads if "it faulted" in thread)
    (sleeping,) = (thread for thread in threads if "it faulted" not in thread)
    assert "break_it" in faulting
    assert "in sleep_on" in sleeping


@pytest.mark.parametrize("death", DEATHS)
def test_it_is_reported_and_the_process_dies_of_its_signal(
    runner: "Runner", environment: dict[str, str], death: str
) -> None:
    broken, kind, access, function = DEATHS[death]
    script = runner.script(program(broken))
    done = runner.watch(script, environment=environment)
    assert done.status == -signal.SIGSEGV
    assert_whole_report(done, "SIGSEGV")
    assert done.document["exit"] == -signal.SIGSEGV
    fault = done.fault
    assert (fault["kind"], fault["access"], fault["recovered"]) == (kind, access, False)
    assert (fault["signal"], fault["count"], fault["distance"], fault["object"]) == ("SIGSEGV", 1, None, None)
    assert [frame["function"] for frame in fault["python"]] == ["break_it", "<module>"]
    assert fault["python"][0]["file"] == str(runner.folder / script)
    functions = [frame["function"] for frame in fault["native"]]
    assert function in functions[:2]
    assert functions[-1] == ("loop_recursion" if function == "loop_recursion" else "_PyEval_EvalFrameDefault")
    assert fault["thread"]["name"] == "MainThread"
    assert (fault["mapping"] is None) == (kind in ("unmapped", "stack-overflow"))


def test_a_deep_recursion_of_python_and_c_overflows_the_stack_where_python_does_not_count_it(
    runner: "Runner", environment: dict[str, str]
) -> None:
    broken = "misbehave.write_then_call(ctypes.addressof(byte), 0, break_it)"
    before = "sys.setrecursionlimit(10**9)\nbyte = ctypes.create_string_buffer(1)"
    done = runner.watch(runner.script(program(broken, before)), environment=environment)
    if sys.version_info >= (3, 12):  # there Python counts the C frames below it
        assert (done.status, done.document["faults"]) == (1, [])
        assert "RecursionError" in done.stderr
        return
    assert done.status == -signal.SIGSEGV
    assert_whole_report(done, "SIGSEGV")
    assert done.fault["kind"] == "stack-overflow"
    assert done.fault["depth"] > 1000
    assert {frame["function"] for frame in done.fault["python"]} <= {"break_it", "<module>"}
    assert "[stack]" in done.stderr.partition("mappings around the address")[2]


def test_a_file_that_became_shorter_is_a_bus_error(runner: "Runner", environment: dict[str, str]) -> None:
    done = runner.watch(runner.script(program(SHORTENED.strip())), environment=environment)
    assert done.status == -signal.SIGBUS
    assert_whole_report(done, "SIGBUS")
    assert done.document["exit"] == -signal.SIGBUS
    fault = done.fault
    assert (fault["kind"], fault["signal"], fault["access"], fault["size"]) == ("bus", "SIGBUS", "read", 1)
    assert int(fault["address"], 16) - int(fault["mapping"]["start"], 16) == 5
    beneath = {"size": 0, "position": 5, "stop": 2 * PAGE_SIZE, "loss": "short"}
    assert fault["file"] == {**beneath, "path": fault["mapping"]["path"]}
    assert f"it ends at byte 0 now, the mapping goes on to {2 * PAGE_SIZE}" in done.stderr


MISALIGNED = """
    code = bytes.fromhex("9c810c24000004009d488b4701c3")  # sets the flag that asks for checks; mov rax, [rdi + 1]
    view = mmap.mmap(-1, mmap.PAGESIZE, prot=7)
    view[:len(code)] = code
    start = ctypes.addressof(ctypes.c_char.from_buffer(view))
    ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(start)(start)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the program is machine code of x86-64")
def test_an_access_that_the_processor_wants_aligned_is_told_as_such(
    runner: "Runner", environment: dict[str, str]
) -> None:
    done = runner.watch(runner.script(program(MISALIGNED.strip())), environment=environment)
    assert done.status == -signal.SIGBUS
    assert_whole_report(done, "SIGBUS")
    assert (done.fault["kind"], done.fault["access"], done.fault["size"]) == ("bus", "read", 8)
    assert done.fault["file"]["loss"] == "misaligned"
    assert int(done.fault["address"], 16) - int(done.fault["mapping"]["start"], 16) == 1
    assert "the processor was told to forbid accesses that are not aligned" in done.stderr


@pytest.mark.parametrize("before", ["import faulthandler; faulthandler.enable()", ""])
@pytest.mark.parametrize("flags", [(), ("-X", "faulthandler")], ids=["", "-X faulthandler"])
def test_faulthandler_tells_its_own_story_as_well(
    runner: "Runner", environment: dict[str, str], before: str, flags: tuple[str, ...]
) -> None:
    script = runner.script(program("misbehave.null_write()", before))
    done = runner.watch(script, flags=flags, environment=environment)
    assert done.status == -signal.SIGSEGV
    assert_whole_report(done, "SIGSEGV")
    assert ("Fatal Python error: Segmentation fault" in done.stderr) == bool(before or flags)
    assert done.document["exit"] == -signal.SIGSEGV


def test_a_death_in_another_thread_names_that_thread(runner: "Runner", environment: dict[str, str]) -> None:
    broken = "thread = threading.Thread(target=misbehave.null_write, name='breaker'); thread.start(); thread.join()"
    done = runner.watch(runner.script(program(broken)), environment=environment)
    assert done.status == -signal.SIGSEGV
    assert done.fault["thread"]["id"] != 0
    assert done.fault["python"][0]["function"].endswith("run")


def test_the_document_of_a_dead_program_counts_its_guarded_arrays(
    runner: "Runner", environment: dict[str, str]
) -> None:
    pytest.importorskip("numpy")
    before = "import numpy\narrays = [numpy.zeros(100) for _ in range(50)]"
    done = runner.watch(runner.script(program("misbehave.null_write()", before)), environment=environment)
    assert done.status == -signal.SIGSEGV
    assert done.document["guarded"]["numpy"]["arrays"] >= 50
    assert done.document["guarded"]["numpy"]["bytes"] >= 50 * 800


def test_a_death_after_a_recovered_fault_leaves_both(runner: "Runner", environment: dict[str, str]) -> None:
    pytest.importorskip("numpy")
    before = (
        "import numpy\nfrom memprot import FaultError\narray = numpy.zeros(100)\n"
        "try:\n    misbehave.write(array.ctypes.data + 800, 1)\nexcept FaultError:\n    print('caught')\n"
    )
    done = runner.watch(runner.script(program("misbehave.null_write()", before)), environment=environment)
    assert done.status == -signal.SIGSEGV
    assert done.stdout == "caught\nready\n"
    assert [(fault["kind"], fault["recovered"]) for fault in done.document["faults"]] == [
        ("overflow", True),
        ("unmapped", False),
    ]


@pytest.mark.parametrize("call", ["misbehave.raise_signal(6)", "import os; os.abort()"])
def test_abort_is_the_programs_own(runner: "Runner", environment: dict[str, str], call: str) -> None:
    done = runner.both(runner.script(f"import misbehave\n{call}\n"), environment=environment)
    assert (done.status, done.stderr) == (-signal.SIGABRT, b"")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS])
def test_a_fault_signal_sent_from_outside_ends_it_without_a_report(
    runner: "Runner", environment: dict[str, str], number: int
) -> None:
    script = runner.script(program("import time; time.sleep(60)"))
    done = runner.both(script, environment=environment, interact=runner.signal_when_ready(number))
    assert (done.status, done.stderr) == (-number, b"")
