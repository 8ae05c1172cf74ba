"""Programs whose arrays are guarded, where memory is short, processes fork, or nothing catches."""

import signal
import subprocess
from collections.abc import Callable

RunChild = Callable[..., subprocess.CompletedProcess[str]]

SETUP = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import numpy, misbehave, memprot.guard
from memprot import FaultError, catch_faults
memprot.guard.enable("numpy")
"""


def lines_of(child: subprocess.CompletedProcess[str]) -> list[str]:
    assert child.returncode == 0, (child.returncode, child.stderr)
    return child.stdout.splitlines()


def test_where_address_space_is_short_guards_are_given_up_and_the_program_works(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
import resource
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20), used + (400 << 20)))
arrays = [numpy.full(10_000, index) for index in range(2000)]
arrays.append(numpy.zeros(150 << 20, "u1"))
print(all((array == index).all() for index, array in enumerate(arrays[:-1])), arrays[-1].any())
report = memprot.guard.report()["numpy"]
print(report["unguarded"] > 0)
try:
    numpy.ones(1 << 40, "u1")
except MemoryError:
    print("memory error")
""")
    assert lines_of(child) == ["True False", "True", "memory error"]


def test_a_child_of_a_fork_has_the_guards_of_its_parent(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
array = numpy.arange(13, dtype="u1")
def overruns(array):
    try:
        with catch_faults():
            misbehave.write(array.ctypes.data + array.nbytes, 1)
    except FaultError as fault:
        return fault.cause == "guard" and fault.offset == array.nbytes
    return False
pid = os.fork()
good = [overruns(array), overruns(numpy.ones(100)), array.tolist() == list(range(13))]
del array
good.append(not numpy.zeros(50).tolist()[0])
if pid == 0:
    os._exit(0 if all(good) else 1)
print(good, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""")
    assert lines_of(child) == ["[True, True, True, True] 0"]


def test_threads_allocate_while_others_fork(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
import threading
stop = threading.Event()
def work():
    while not stop.is_set():
        numpy.ones((50, 50)) @ numpy.ones((50, 2))
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
results = []
for _ in range(60):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if numpy.ones(1000).sum() == 1000 else 1)
    results.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.set()
for thread in threads:
    thread.join()
print(set(results))
""")
    assert lines_of(child) == ["{0}"]


def test_an_overrun_that_nobody_catches_is_reported_with_the_line_and_dies(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
array = numpy.zeros(100)
print(hex(array.ctypes.data + 800), flush=True)
misbehave.write64(array.ctypes.data + 800, 1)
""")
    assert child.returncode == -signal.SIGSEGV
    assert f"fatal write of 8 bytes at {child.stdout.strip()}, in the guard of a block of 800 bytes" in child.stderr
    assert 'File "<string>", line ' in child.stderr


def test_enabling_before_and_after_importing_numpy_is_the_same(run_child: RunChild) -> None:
    child = run_child("""
import sys, misbehave, memprot.guard
assert "numpy" not in sys.modules
memprot.guard.enable("numpy")
import numpy
from memprot import FaultError, catch_faults
array = numpy.ones(5)
try:
    with catch_faults():
        misbehave.write(array.ctypes.data + 40, 1)
except FaultError as fault:
    print(fault.cause, fault.offset)
""")
    assert lines_of(child) == ["guard 40"]


def test_a_program_ends_well_with_arrays_alive_and_a_guard_enabled(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
import atexit
keep = [numpy.ones(length) for length in range(1, 500)]
class Late:
    def __del__(self):
        keep and sum(array.sum() for array in keep)
late = Late()
atexit.register(lambda: numpy.zeros(1000).sum())
print("end")
""")
    assert lines_of(child) == ["end"]
    assert child.stderr == ""


def test_a_hundred_thousand_small_arrays_live_at_once(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
arrays = [numpy.array([index]) for index in range(100_000)]
print(all(array[0] == index for index, array in enumerate(arrays[::1000], 0)) or arrays[-1][0])
with open("/proc/self/maps") as maps:
    print(sum(1 for _ in maps) < 1000)
del arrays
arrays = [numpy.zeros(1) for index in range(100_000)]
print(any(array[0] for array in arrays))
""")
    assert lines_of(child) == ["99999", "True", "False"]
