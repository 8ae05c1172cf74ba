"""Two threads on one page: what a thread does to a page that another one has been let through to.

Where there are protection keys the second thread is blocked and told as if it were alone. Without them its access goes
unnoticed until the first thread's fault is taken over: a report is lost, never data.
"""

import subprocess
from collections.abc import Callable

import pytest

from memprot import features

RunChild = Callable[..., subprocess.CompletedProcess[str]]

KEYS = features.available("protection_keys")

# The first thread writes to the page over and over, in one call of native code, until it is let go.
SETUP = """
import ctypes, threading, time
import misbehave
from memprot import PAGE_SIZE, FaultError, Region, catch_faults, guarded, protect
from memprot._native import buffer_range, fault_waiting

class First(threading.Thread):
    def __init__(self, address):
        super().__init__()
        self.address, self.flag = address, ctypes.c_uint8()
        self.told = []
        self.start()
        while fault_waiting() == 0:
            time.sleep(0.001)
    def run(self):
        try:
            with catch_faults():
                misbehave.write_in_loop_until(self.address, 7, ctypes.addressof(self.flag))
        except FaultError as fault:
            self.told = [each.thread.id == self.native_id and each.access for each in (fault, *fault.others)]
    def let_go(self):
        self.flag.value = 1
        self.join()

def told(access):
    try:
        with catch_faults():
            value = access()
        return value if value is not None else "unnoticed"
    except FaultError as fault:
        own = all(each.thread.id == threading.get_native_id() for each in (fault, *fault.others))
        return f"{fault.access} {fault.cause} {own}"
"""


def lines_of(child: subprocess.CompletedProcess[str]) -> list[str]:
    assert child.returncode == 0, (child.returncode, child.stderr)
    return child.stdout.splitlines()


MEMORY = {
    "private": "region = Region(PAGE_SIZE, 'r--'); page = region.address",
    "shared": "region = Region(PAGE_SIZE, 'r--', shared=True); page = region.address",
    "foreign": "import mmap; memory = mmap.mmap(-1, PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
    "protect(memory, 'r--'); page = buffer_range(memory)[0]; region = memory",
    "guard": "region = guarded(PAGE_SIZE); page = region.address + PAGE_SIZE",
}


@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
@pytest.mark.parametrize("memory", MEMORY)
def test_a_second_writer_is_told_where_there_are_keys(run_child: RunChild, memory: str, gil: bool) -> None:
    child = run_child(f"""{SETUP}
{MEMORY[memory]}
cause = "guard" if {memory == "guard"} else "protection"
first = First(page)
print(told(lambda: misbehave.write(page + 8, 9, gil={gil})) == f"write {{cause}} True")
first.let_go()
print(first.told)
print(told(lambda: misbehave.write(page + 8, 9, gil={gil})) == f"write {{cause}} True")
print(bytes(region[:16]) == bytes(16))
""")
    # The page is closed when the second one's fault is taken over, and the first one goes on as part of its own.
    assert lines_of(child) == [str(KEYS), "['write']", "True", "True"]


@pytest.mark.parametrize("memory", ["private", "shared", "foreign"])
def test_a_reader_whom_the_protection_permits_sees_the_data_where_there_are_keys(
    run_child: RunChild, memory: str
) -> None:
    child = run_child(f"""{SETUP}
{MEMORY[memory]}
first = First(page)
print(told(lambda: misbehave.read(page)))
first.let_go()
print(first.told, told(lambda: misbehave.read(page)), bytes(region[:16]) == bytes(16))
""")
    seen, after = lines_of(child)
    assert seen == ("0" if KEYS else "7")
    assert after == "['write'] 0 True"


def test_a_reader_whom_the_protection_forbids_is_told_where_there_are_keys(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
region = Region(PAGE_SIZE, "---")
first = First(region.address)
print(told(lambda: misbehave.read(region.address + 8)))
first.let_go()
print(first.told, told(lambda: misbehave.read(region.address + 8)))
""")
    seen, after = lines_of(child)
    assert seen == ("read protection True" if KEYS else "0")
    assert after == "['write'] read protection True"


def test_the_window_ends_when_the_first_fault_is_taken_over(run_child: RunChild) -> None:
    """A second writer goes on for as long as the first thread has not left its native code, and not longer."""
    child = run_child(f"""{SETUP}
region = Region(PAGE_SIZE, "r--")
first = First(region.address)
counts = []
def write():
    for _ in range(100):
        counts.append(told(lambda: misbehave.write(region.address + 8, 9)))
write()
during = set(counts)
first.let_go()
counts.clear()
write()
print(sorted(during), sorted(set(counts)), first.told, bytes(region[:16]) == bytes(16))
""")
    during = ["write protection True"] if KEYS else ["unnoticed"]
    assert lines_of(child) == [f"{during} ['write protection True'] ['write'] True"]
