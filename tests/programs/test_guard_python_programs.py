"""Programs whose every Python allocation is guarded: they are as they are without."""

import sys
import sysconfig
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Outcome, Runner

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
TARGETS = "raw" if FREE_THREADED else "raw,mem,obj"
RUN = (sys.executable, "-m", "memprot", "run", "--guard", TARGETS)
NO_FAULTS = b"memprot: no faults."

WORK = """
import array, asyncio, collections, decimal, json, re, weakref
class Node:
    def __init__(self, number):
        self.number, self.others = number, []
def work(seed=0):
    nodes = [Node(number) for number in range(300)]
    for node in nodes:
        node.others.append(nodes[(node.number * 7 + seed) % 300])
    text = json.dumps({str(node.number): node.others[0].number for node in nodes})
    counted = collections.Counter(re.findall("[0-9]", text))
    data = bytearray()
    for number in range(2000):
        data.append(number & 255)
    large = [bytes(number) for number in (100, 511, 512, 513, 5000, 100000)]
    return sum(counted.values()), sum(data), len(b"".join(large)), str(decimal.Decimal(2).sqrt())
"""


def run(
    runner: "Runner",
    code: str,
    *flags: str,
    options: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> "Outcome":
    python, *rest = RUN
    return runner.run((python, *flags, *rest, *options, "-c", code), environment=environment)


def test_a_program_that_allocates_all_kinds_of_objects_has_the_same_result(runner: "Runner") -> None:
    code = WORK + "import asyncio\nasync def main(): return work()\nprint(asyncio.run(main()))"
    plain = runner.run((sys.executable, "-c", code))
    for options in ((), ("--side", "left"), ("--side", "turns"), ("--sample", "7"), ("--align", "1")):
        done = run(runner, code, options=options)
        assert (done.status, done.stdout) == (plain.status, plain.stdout)
        assert done.stderr.startswith(NO_FAULTS)


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        (("-X", "dev"), {}),
        ((), {"PYTHONMALLOC": "debug"}),
        ((), {"PYTHONMALLOC": "malloc"}),
        ((), {"PYTHONMALLOC": "malloc_debug"}),
        ((), {"PYTHONMALLOC": "pymalloc"}),
    ],
    ids=["dev", "debug", "malloc", "malloc_debug", "pymalloc"],
)
@pytest.mark.skipif(FREE_THREADED, reason="this Python has one allocator of objects")
def test_it_works_on_top_of_any_allocator_of_python(
    runner: "Runner", flags: tuple[str, ...], environment: dict[str, str]
) -> None:
    code = WORK + "print(work())\nimport memprot.guard\nprint(memprot.guard.report()['obj']['blocks'] > 1000)"
    done = run(runner, code, *flags, environment=environment)
    assert done.status == 0
    assert done.stdout.endswith(b"True\n")
    assert done.stderr.startswith(NO_FAULTS)


def test_where_tracemalloc_is_on_the_program_runs_without_and_is_told_so(runner: "Runner") -> None:
    done = run(runner, "import tracemalloc; tracemalloc.stop(); print(bytes(3))", "-X", "tracemalloc")
    assert (done.status, done.stdout) == (0, b"b'\\x00\\x00\\x00'\n")
    for what in TARGETS.split(","):
        words = {
            "raw": b"blocks of Python's raw memory",
            "mem": b"blocks of Python's memory",
            "obj": b"Python's objects",
        }
        assert words[what] + b" could not be guarded, so they are not (RuntimeError: tracemalloc is on" in done.stderr


def test_tracemalloc_may_begin_and_end_while_memory_is_guarded(runner: "Runner") -> None:
    code = WORK + (
        "import tracemalloc\nkept = work()\ntracemalloc.start()\nmore = [bytes(n) for n in range(2000)]\n"
        "size = tracemalloc.get_traced_memory()[0] > 100000\ntracemalloc.stop()\ndel more\nprint(size, work() == kept)"
    )
    done = run(runner, code)
    assert (done.status, done.stdout) == (0, b"True True\n")


def test_a_thousand_forked_children_end_well(runner: "Runner") -> None:
    code = (
        WORK
        + """
import os
kept = work()
wrong = 0
for number in range(1000):
    child = os.fork()
    if child == 0:
        os._exit(0 if len([str(n) for n in range(200)]) == 200 and bytearray(number) == bytes(number) else 1)
    wrong += os.waitpid(child, 0)[1] != 0
print(wrong, work() == kept)
"""
    )
    done = run(runner, code, options=("--sample", "100"))
    assert (done.status, done.stdout) == (0, b"0 True\n")


def test_children_forked_while_threads_allocate_end_well(runner: "Runner") -> None:
    code = (
        WORK
        + """
import os, threading
stop = threading.Event()
def churn():
    while not stop.is_set():
        work()
threads = [threading.Thread(target=churn) for _ in range(4)]
for thread in threads: thread.start()
wrong = 0
for number in range(30):
    child = os.fork()
    if child == 0:
        os._exit(work(number)[1] != sum(n & 255 for n in range(2000)))
    wrong += os.waitpid(child, 0)[1] != 0
stop.set()
for thread in threads: thread.join()
print(wrong)
"""
    )
    done = run(runner, code, "-W", "ignore")
    assert (done.status, done.stdout) == (0, b"0\n")


def test_eight_threads_allocate_at_once(runner: "Runner") -> None:
    code = (
        WORK
        + """
import threading
results = []
threads = [threading.Thread(target=lambda: results.extend(work() for _ in range(5))) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(results), len(set(results)))
"""
    )
    done = run(runner, code)
    assert (done.status, done.stdout) == (0, b"40 1\n")


@pytest.mark.skipif(FREE_THREADED, reason="its objects stay with its own allocator")
@pytest.mark.parametrize("isolated", [False, True], ids=["legacy", "isolated"])
def test_other_interpreters_allocate_from_the_same_guards(runner: "Runner", isolated: bool) -> None:
    code = f"""
import sys
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    other = interpreters.create("isolated" if {isolated} else "legacy")
else:
    import _xxsubinterpreters as interpreters
    other = interpreters.create(isolated={isolated})
interpreters.run_string(other, {WORK + "print(work()[0] > 0, flush=True)"!r})
interpreters.destroy(other)
{WORK}
print(work()[0] > 0)
"""
    done = run(runner, code)
    assert (done.status, done.stdout) == (0, b"True\nTrue\n")


def test_threads_and_objects_that_outlive_the_program_end_with_it(runner: "Runner") -> None:
    code = (
        WORK
        + """
import atexit, builtins, sys, threading, time
class Last:
    def __del__(self):
        self.made = [bytes(number) for number in range(600)]
builtins.last = Last()
sys.last_one = Last()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
atexit.register(work)
sys.addaudithook(lambda *event: None)
print(work()[0] > 0)
"""
    )
    done = run(runner, code)
    assert (done.status, done.stdout) == (0, b"True\n")
    assert done.stderr.startswith(NO_FAULTS)


def test_guards_are_turned_on_and_off_in_the_middle(runner: "Runner") -> None:
    code = (
        WORK
        + f"""
import memprot.guard
kept, first = [], work()
for turn in range(20):
    for target in {TARGETS.split(",")!r}:
        (memprot.guard.enable if turn % 2 else memprot.guard.disable)(target)
    kept.append([bytes(number) for number in range(700)])
    assert work() == first
    del kept[: turn % 3]
print("same")
"""
    )
    done = runner.run((sys.executable, "-c", code))
    assert (done.status, done.stdout, done.stderr) == (0, b"same\n", b"")


def test_what_it_starts_is_not_guarded(runner: "Runner") -> None:
    code = "import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', 'print(1)']))"
    done = run(runner, code)
    assert (done.status, done.stdout) == (0, b"b'1\\n'\n")


def test_where_address_space_is_scarce_guards_are_given_up_and_memory_is_not(runner: "Runner") -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
    code += WORK + "kept = [str(number) for number in range(200000)]\nprint(work()[0] > 0, len(kept))"
    done = run(runner, code)
    assert (done.status, done.stdout) == (0, b"True 200000\n"), done.stderr[-2000:]
