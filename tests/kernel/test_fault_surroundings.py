"""Forks, other handlers, threads: the engine among others, and what is left when it goes."""

import subprocess
from collections.abc import Callable

import pytest

RunChild = Callable[..., subprocess.CompletedProcess[str]]

SETUP = """
import ctypes, faulthandler, os, signal, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import misbehave
from memprot import PAGE_SIZE, Region, FaultError, catch_faults, guarded

def raises(region, **how):
    try:
        with catch_faults():
            misbehave.write(region.address, 1, **how)
    except FaultError:
        return region.read(0, 1) == b"\\0"
    return False
"""


def lines_of(child: subprocess.CompletedProcess[str]) -> list[str]:
    assert child.returncode == 0, (child.returncode, child.stderr)
    return child.stdout.splitlines()


@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
def test_a_scope_works_after_another_handler_was_installed(run_child: RunChild, shared: bool) -> None:
    child = run_child(f"""{SETUP}
region = Region(10, "r--", shared={shared})
print(raises(region))
faulthandler.enable()
print(raises(region))
faulthandler.disable()
print(raises(region))
signal.signal(signal.SIGSEGV, lambda *_: None)
print(raises(region))
signal.signal(signal.SIGSEGV, signal.SIG_DFL)
print(raises(region))
with catch_faults():
    faulthandler.enable()
    print(raises(region))
""")
    assert lines_of(child) == ["True"] * 6


HANDLERS = """
class Action(ctypes.Structure):
    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_uint8 * 128), ("flags", ctypes.c_int),
                ("restorer", ctypes.c_void_p)]

def handlers():
    found = []
    for number in (signal.SIGSEGV, signal.SIGBUS):
        action = Action()
        assert ctypes.CDLL(None).sigaction(int(number), None, ctypes.byref(action)) == 0
        found.append((action.handler, action.flags & 0xFFFFFFFF & ~0x04000000))  # SA_RESTORER is the C library's own
    return found

def state():
    with open("/proc/self/maps") as maps:
        count = sum(1 for line in maps if "[heap]" not in line)
    with open("/proc/self/status") as status:
        caught = [line for line in status if line.startswith(("SigCgt", "SigBlk", "SigIgn"))]
    return handlers(), sorted(os.listdir("/proc/self/fd")), os.listdir("/proc/self/task"), caught, count

def work():
    for shared in (False, True):
        for prot in ("r--", "---"):
            with Region(40 * PAGE_SIZE, shared=shared) as region:
                region.protect(prot)
                try:
                    with catch_faults():
                        misbehave.stosb(region.address, 1, region.size)
                except FaultError as fault:
                    str(fault), fault.record
                region.protect("r--")
                assert region.read() == bytes(region.size)
    block = guarded(10)
    try:
        with catch_faults():
            misbehave.write(block.address + 10, 1)
    except FaultError as fault:
        str(fault)
    block.close()
    state()
"""


@pytest.mark.parametrize("python", [(), ("-Xfaulthandler",)], ids=["plain", "faulthandler"])
def test_after_everything_is_closed_nothing_is_left(
    run_child: RunChild, python: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONMALLOC", "malloc")  # Python's own arenas are mappings that come when one is full
    child = run_child(
        f"""{SETUP}{HANDLERS}
import gc
first = handlers()
fds = sorted(os.listdir("/proc/self/fd"))
work()
gc.collect()
before = state()
work()
gc.collect()
after = state()
paths = ["/proc/self/fd/" + fd for fd in before[1]]
files = [os.readlink(path) for path in paths if os.path.lexists(path)]
print(first == before[0], len(before[1]) == len(fds) + 1 and f"/proc/{{os.getpid()}}/maps" in files)
print(*(one == other for one, other in zip(before, after)))
""",
        python=python,
    )
    assert lines_of(child) == ["True True", "True True True True True"]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["to this thread", "to another thread"])
def test_a_signal_sent_while_handlers_come_and_go_reaches_the_one_below(run_child: RunChild, elsewhere: bool) -> None:
    child = run_child(
        f"""
import os, signal, subprocess, sys, threading
from memprot import Region
came = 0
def count(*_):
    global came
    came += 1
over = threading.Event()
signal.signal(signal.SIGSEGV, count)
thread = threading.Thread(target=over.wait)
if not {elsewhere}:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGSEGV])
thread.start()
if {elsewhere}:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGSEGV])
program = "import os, signal, sys\\nfor _ in range(100_000): os.kill(int(sys.argv[1]), signal.SIGSEGV)"
sender = subprocess.Popen([sys.executable, "-c", program, str(os.getpid())])
def regions():
    for _ in range(3):
        with Region(1):
            pass
while sender.poll() is None:
    if not {elsewhere}:  # the one below is another one each time
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGSEGV])
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        regions()
        signal.signal(signal.SIGSEGV, count)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGSEGV])
    regions()
over.set()
thread.join()
print(came > 0, signal.getsignal(signal.SIGSEGV) is count)
"""
    )
    assert lines_of(child) == ["True True"]


def test_importing_changes_no_handler(run_child: RunChild) -> None:
    program = "before = handlers()\nimport memprot\nprint(before == handlers())"
    child = run_child(f"import ctypes, os, signal\n{HANDLERS}\n{program}")
    assert lines_of(child) == ["True"]


def test_a_scope_takes_the_signal_of_files_only_and_memory_takes_both(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}{HANDLERS}
before = handlers()
def taken():
    return [one != other for one, other in zip(handlers(), before)]
with catch_faults():
    print(*taken())
    region = Region(10, "r--")
    print(*taken(), raises(region))
    region.close()
    print(*taken())
print(*taken())
""")
    assert lines_of(child) == ["False True", "True True True", "False True", "False False"]


FORKS = """
def in_child(act):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if act() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
def test_a_fork_inside_a_scope_leaves_both_sides_at_work(run_child: RunChild, shared: bool) -> None:
    child = run_child(f"""{SETUP}{FORKS}
region = Region(10, "r--", shared={shared})
with catch_faults() as scope:
    for _ in range(20):
        print(in_child(lambda: raises(region) and raises(region, gil=False)), raises(region))
    assert scope.faults == ()
print(raises(region))
""")
    assert lines_of(child) == ["0 True"] * 20 + ["True"]


@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
def test_what_was_recorded_before_a_fork_is_known_on_both_sides(run_child: RunChild, shared: bool) -> None:
    """In the child Python's own functions for forks run first, and end what is raised in them."""
    child = run_child(f"""{SETUP}
parent = os.getpid()
sys.unraisablehook = lambda unraisable: None
region = Region(10, "r--", shared={shared})
scope = catch_faults()
raised = False
try:
    with scope:
        misbehave.write_then_call(region.address, 9, os.fork)
except FaultError as fault:
    raised = fault.offset == 0
good = len(scope.faults) == 1 and scope.faults[0].offset == 0 and region[0] == 0 and raises(region)
if os.getpid() != parent:
    os._exit(0 if good else 3)
print(good, raised, os.waitstatus_to_exitcode(os.wait()[1]))
""")
    assert lines_of(child) == ["True True 0"]


def test_forks_while_other_threads_fault(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}{FORKS}
regions = [Region(PAGE_SIZE * 8, "r--", shared=index % 2 == 0) for index in range(4)]
stop = threading.Event()
raised = [0] * 4
missed = [0] * 4
def work(index, gil):
    region = regions[index]
    with catch_faults():
        while not stop.is_set():
            try:
                misbehave.set(region.address + 100, 1, 5 * PAGE_SIZE, gil=gil)
                missed[index] += 1
            except FaultError:
                raised[index] += 1
threads = [threading.Thread(target=work, args=(index, index % 2 == 0)) for index in range(3)]
for thread in threads:
    thread.start()
def act():
    return all(raises(region) and not any(region.read()) for region in regions)
results = [in_child(act) for _ in range(200)]
stop.set()
for thread in threads:
    thread.join()
print(results.count(0), missed, min(raised[:3]) > 0, all(not any(region.read()) for region in regions))
print(raises(regions[0]))
""")
    assert lines_of(child) == ["200 [0, 0, 0, 0] True True", "True"]


def test_subprocesses_start_as_usual(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
import multiprocessing, subprocess
def work(queue):
    queue.put(raises(Region(10, "r--")))
if __name__ == "__main__":
    region = Region(10, "r--")
    with catch_faults():
        print(subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, text=True).stdout.strip())
        queue = multiprocessing.get_context("fork").Queue()
        process = multiprocessing.get_context("fork").Process(target=work, args=(queue,))
        process.start()
        print(queue.get())
        process.join()
        print(process.exitcode)
""")
    assert lines_of(child) == ["1", "True", "0"]


def test_threads_that_come_and_go_each_get_their_own_fault(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
region = Region(64 * PAGE_SIZE, "r--")
good = []
def work(index):
    try:
        with catch_faults():
            misbehave.write(region.address + index % 64 * PAGE_SIZE, 1, gil=index % 2 == 0)
    except FaultError as fault:
        good.append(fault.offset == index % 64 * PAGE_SIZE and fault.thread.id == threading.get_native_id())
for start in range(0, 800, 8):
    threads = [threading.Thread(target=work, args=(start + index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print(len(good), all(good))
""")
    assert lines_of(child) == ["800 True"]


def test_a_limit_of_descriptors_does_not_lose_the_data(run_child: RunChild) -> None:
    """Taking private bytes back needs a descriptor once; there is another way without."""
    child = run_child(f"""{SETUP}
import resource
region = Region(4 * PAGE_SIZE)
region[:] = b"\\5" * region.size
region.protect("r--")
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    with catch_faults():
        misbehave.stosb(region.address, 1, region.size)
except FaultError:
    print(region.read() == b"\\5" * region.size, str(region.prot))
""")
    assert lines_of(child) == ["True r--"]
