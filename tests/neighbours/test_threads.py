"""Threads from before the engine and after it, and threads that switch stacks."""

import subprocess
from collections.abc import Callable

import pytest
from neighbour import SETUP, needs, printed

RunChild = Callable[..., subprocess.CompletedProcess[str]]


def test_threads_from_before_the_engine_raise_as_those_from_after_it(run_child: RunChild) -> None:
    child = run_child("""
import threading
go, done = threading.Event(), threading.Event()
results = []
def work():
    go.wait()
    results.append(raises() and raises(gil=False))
    done.set()
old = threading.Thread(target=work)
old.start()
""" + f"""{SETUP}
go.set()
old.join()
new = threading.Thread(target=work)
new.start()
new.join()
print(results)
""")  # fmt: skip
    assert printed(child) == "[True, True]"


def test_a_thread_that_waits_in_a_scope_does_not_keep_others_from_theirs(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
inside, go = threading.Event(), threading.Event()
def work():
    with catch_faults() as scope:
        inside.set()
        go.wait()
    print(scope.faults, raises())
thread = threading.Thread(target=work)
thread.start()
inside.wait()
print(raises(), raises(gil=False))
go.set()
thread.join()
""")
    assert printed(child) == "True True\n() True"


@needs("greenlet")
def test_scopes_within_greenlets_raise_in_the_greenlet_that_made_the_access(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
from greenlet import greenlet, getcurrent
order = []
def deep(depth):
    return deep(depth - 1) if depth else raises()
def work(name):
    for depth in (0, 30, 100):
        order.append((name, deep(depth)))
        parent.switch()
parent = getcurrent()
lets = [greenlet(work) for _ in range(4)]
for _ in range(4):
    for index, let in enumerate(lets):
        let.switch(index)
print(len(order), all(good for _, good in order), raises())
""")
    assert printed(child) == "12 True True"


@needs("greenlet")
def test_a_scope_across_a_switch_catches_what_its_thread_does_meanwhile(run_child: RunChild) -> None:
    """A scope belongs to its thread: a switch inside it does not close it, and another greenlet's access counts."""
    child = run_child(f"""{SETUP}
from greenlet import greenlet, getcurrent
parent = getcurrent()
def opens():
    scope = catch_faults()
    try:
        with scope:
            parent.switch()
    except FaultError as fault:
        return "outer", fault.offset, len(scope.faults)
    return "outer", None
def writes_in_a_scope_of_its_own():
    return raises()
outer = greenlet(opens)
outer.switch()
print(greenlet(writes_in_a_scope_of_its_own).switch())
try:
    misbehave.write(region.address + 7, 1)
    print("not raised here")
except FaultError as fault:
    print("parent", fault.offset)
print(outer.switch(), region.read() == bytes(10), raises())
""")
    assert printed(child) == "True\nparent 7\n('outer', None) True True"


@needs("gevent")
@pytest.mark.parametrize("patched", [False, True], ids=["plain", "monkey-patched"])
def test_gevents_tasks_and_its_threads_each_get_their_own_faults(run_child: RunChild, patched: bool) -> None:
    child = run_child(f"""
import gevent
if {patched}:
    from gevent import monkey
    monkey.patch_all()
{SETUP}
from gevent.threadpool import ThreadPool
def work(index):
    good = []
    for _ in range(5):
        good.append(raises(gil=index % 2 == 0))
        gevent.sleep(0)
    return all(good)
jobs = [gevent.spawn(work, index) for index in range(10)]
gevent.joinall(jobs)
print(all(job.value for job in jobs))
print(all(ThreadPool(1).apply(raises) for _ in range(3)), raises())
""")
    assert printed(child) == "True\nTrue True"


ASYNC = """
import asyncio
async def work(index):
    good = []
    for _ in range(5):
        good.append(raises(gil=index % 2 == 0))
        await asyncio.sleep(0)
    return all(good)
async def main():
    came = []
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, came.append, 1)
    os.kill(os.getpid(), signal.SIGUSR1)
    results = await asyncio.gather(*(work(index) for index in range(10)))
    results.append(await asyncio.to_thread(raises))
    process = await asyncio.create_subprocess_exec("true")
    results.append(await process.wait() == 0)
    return all(results), came
"""


def test_asyncio_runs_as_it_did(run_child: RunChild) -> None:
    child = run_child(f"{SETUP}{ASYNC}\nprint(*asyncio.run(main()), raises())")
    assert printed(child) == "True [1] True"


@needs("uvloop")
def test_uvloop_runs_as_it_did(run_child: RunChild) -> None:
    loop = "import uvloop\nwith asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:\n"
    child = run_child(f"{SETUP}{ASYNC}\n{loop}    print(*runner.run(main()), raises())")
    assert printed(child) == "True [1] True"
