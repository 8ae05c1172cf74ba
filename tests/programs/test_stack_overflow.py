"""A stack that ran out under ``memprot run`` is told as that, and other accesses beside a stack are not."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner, Watched

FRAMES = 40

SETUP = f"""
import sys, threading
import misbehave
from memprot import PAGE_SIZE, AddressSpace, calls

def at_depth(act, depth={FRAMES}):
    return act() if depth <= 1 else at_depth(act, depth - 1)
"""


@pytest.fixture
def environment(misbehave_path: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(misbehave_path)}


def assert_overflow(done: "Watched", depth: int, thread: str = "MainThread") -> None:
    assert done.status == -signal.SIGSEGV
    fault = done.fault
    assert (fault["kind"], fault["depth"], fault["recovered"]) == ("stack-overflow", depth, False)
    assert fault["thread"]["name"] == thread
    assert f"memprot: stack overflow in thread {thread} at Python depth {depth:,}\n" in done.stderr
    assert "The program dies of SIGSEGV, as it would have without memprot." in done.stderr


def test_the_main_thread_tells_how_many_python_frames_it_had(runner: "Runner", environment: dict[str, str]) -> None:
    done = runner.watch(runner.script(SETUP + "at_depth(misbehave.overflow_stack)"), environment=environment)
    assert_overflow(done, FRAMES + 1)
    assert {frame["function"] for frame in done.fault["native"]} == {"loop_recursion"}


def test_a_forked_child_and_a_smaller_limit_make_no_difference(runner: "Runner", environment: dict[str, str]) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))\n"
    fork = "import os\nif os.fork():\n    os._exit(os.waitstatus_to_exitcode(os.wait()[1]) & 0xff)\n"
    done = runner.watch(runner.script(SETUP + limit + "at_depth(misbehave.overflow_stack)"), environment=environment)
    assert_overflow(done, FRAMES + 1)
    script = runner.script(SETUP + fork + "at_depth(misbehave.overflow_stack)")
    done = runner.watch(script, environment=environment)
    assert done.status == -signal.SIGSEGV & 0xFF
    assert f"stack overflow in thread MainThread at Python depth {FRAMES + 1}" in done.stderr


THREADS = {
    "threading": "thread = threading.Thread(target=at_depth, args=(act,)); thread.start(); thread.join()",
    "a small stack": "threading.stack_size(64 << 10); thread = threading.Thread(target=at_depth, args=(act,))"
    "; thread.start(); thread.join()",
    "a pool": "import concurrent.futures as futures\nfutures.ThreadPoolExecutor().submit(at_depth, act).result()",
}


@pytest.mark.parametrize("kind", THREADS)
def test_another_thread_tells_it_as_well(runner: "Runner", environment: dict[str, str], kind: str) -> None:
    script = runner.script(f"{SETUP}act = misbehave.overflow_stack\n{THREADS[kind]}\n")
    done = runner.watch(script, environment=environment)
    assert_overflow(done, len(done.fault["python"]), done.fault["thread"]["name"])
    assert [frame["function"] for frame in done.fault["python"][:FRAMES]] == ["at_depth"] * FRAMES
    assert f"\nPython thread {done.fault['thread']['id']} (it faulted)" in done.stderr
    assert done.stderr.count("\nPython thread ") >= 2


def test_a_raw_thread_tells_it_as_well(runner: "Runner", environment: dict[str, str]) -> None:
    start = "import _thread, time\n_thread.start_new_thread(at_depth, (misbehave.overflow_stack,))\ntime.sleep(60)\n"
    done = runner.watch(runner.script(SETUP + start), environment=environment)
    assert (done.status, done.fault["kind"], done.fault["depth"]) == (-signal.SIGSEGV, "stack-overflow", FRAMES)


def test_threads_give_their_alternate_stacks_back(runner: "Runner", environment: dict[str, str]) -> None:
    """And the child of a fork those of the threads that it does not have."""
    program = f"""{SETUP}
import os, warnings
warnings.simplefilter("ignore")
def count():
    return len(list(AddressSpace()))
def run(number):
    barrier = threading.Barrier(number + 1)
    threads = [threading.Thread(target=barrier.wait) for _ in range(number)]
    for thread in threads:
        thread.start()
    inside = count()
    child = os.fork()
    if child == 0:
        os._exit(0 if inside - count() >= number else 1)  # their stacks are the C library's to keep
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    barrier.wait()
    for thread in threads:
        thread.join()
    return status
statuses = {{run(30) for _ in range(2)}}
before = count()
statuses |= {{run(30) for _ in range(10)}}
print(statuses, count() - before)
"""
    done = runner.watch(runner.script(program), environment=environment)
    statuses, _, growth = done.stdout.rpartition(" ")
    assert (done.status, statuses) == (0, "{0}"), done.stderr
    assert int(growth) < 10


RECURSIONS = {
    "repr": "nest = []\nfor _ in range(10**6): nest = [nest]\nrepr(nest)",
    "json": "import json\njson.loads('[' * 10**6)",
    "pickle": "import pickle\nnest = []\nfor _ in range(10**6): nest = [nest]\npickle.dumps(nest)",
}


@pytest.mark.parametrize("recursion", RECURSIONS)
def test_a_recursion_in_c_with_a_raised_limit_is_an_overflow_where_python_does_not_count_it(
    runner: "Runner", environment: dict[str, str], recursion: str
) -> None:
    program = f"{SETUP}sys.setrecursionlimit(10**9)\ndef act():\n"
    program += "".join(f"    {line}\n" for line in RECURSIONS[recursion].splitlines())
    done = runner.watch(runner.script(f"{program}act()\n"), environment=environment)
    if sys.version_info >= (3, 12):  # there Python counts the C frames below it
        assert (done.status, done.document["faults"]) == (1, [])
        assert "RecursionError" in done.stderr
    else:
        assert_overflow(done, len(done.fault["python"]))
        assert done.fault["python"][-2]["function"] == "act"


def test_a_wild_pointer_into_the_guard_of_a_threads_own_stack_is_none(
    runner: "Runner", environment: dict[str, str]
) -> None:
    act = f"""{SETUP}
def act():
    import ctypes
    self = ctypes.CDLL(None).pthread_self
    self.restype = ctypes.c_size_t
    layout = AddressSpace().snapshot()
    stack = layout.find(self())
    guard = layout.find(stack.start - 1)
    assert str(guard.prot) == "---"
    misbehave.write(stack.start - 8, 1)
thread = threading.Thread(target=act)
thread.start()
thread.join()
"""
    done = runner.watch(runner.script(act), environment=environment)
    assert done.status == -signal.SIGSEGV
    assert (done.fault["kind"], done.fault["depth"]) == ("protection", None)


WILD = {
    "far below the stack": "stack.start - (64 << 30)",
    "below a smaller stack": "stack.start - PAGE_SIZE",
}


@pytest.mark.parametrize("where", WILD)
def test_a_wild_pointer_below_the_stack_is_none(runner: "Runner", environment: dict[str, str], where: str) -> None:
    act = f"""
import resource
stack = next(mapping for mapping in AddressSpace() if mapping.path == "[stack]")
resource.setrlimit(resource.RLIMIT_STACK, (len(stack), resource.RLIM_INFINITY))
misbehave.write({WILD[where]}, 1)
"""
    done = runner.watch(runner.script(SETUP + act), environment=environment)
    assert done.status == -signal.SIGSEGV
    assert (done.fault["kind"], done.fault["depth"]) == ("unmapped", None)
    assert "stack overflow" not in done.stderr
