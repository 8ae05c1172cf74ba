"""The one open /proc/self/maps of a process: shared by all who ask, and never mistaken for another file."""

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

RunChild = Callable[..., CompletedProcess[str]]

SETUP = """
import ctypes, mmap, os, subprocess, sys
from memprot import PAGE_SIZE, AddressSpace, FaultError, Prot, Region, calls, catch_faults, check, protected
from memprot._native import buffer_range

memory = mmap.mmap(-1, PAGE_SIZE)
start = buffer_range(memory)[0]

def kept():
    files = []
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
        try:
            name = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the directory that was just listed
        if name.endswith("/maps"):
            files.append(fd)
    return files

def prot_of(address):
    with open("/proc/self/maps") as text:
        for line in text:
            low, high = (int(end, 16) for end in line.split()[0].split("-"))
            if low <= address < high:
                return line.split()[1][:3]

def scope():
    with protected(memory, "r--"):
        inside = prot_of(start)
    return inside, prot_of(start)

def fault():
    with Region(PAGE_SIZE) as region:
        region[0] = 7
        calls.mprotect(region.address, PAGE_SIZE, Prot.READ)
        try:
            with catch_faults():
                ctypes.memset(region.address, 1, 1)
        except FaultError as error:
            return error.access, prot_of(region.address), region[0]

def all_of_it():
    assert scope() == ("r--", "rw-")
    assert fault() == ("write", "r--", 7)
    assert check(start, PAGE_SIZE, "r--") and not check(0, PAGE_SIZE, "r--")
    assert AddressSpace().find(start).start <= start
"""


def output(child: CompletedProcess[str]) -> list[str]:
    assert child.returncode == 0, child.stderr
    return child.stdout.splitlines()


def test_all_who_ask_share_one_that_no_program_inherits(run_child: RunChild) -> None:
    program = """
print(kept())
all_of_it()
all_of_it()
print(len(kept()), [os.get_inheritable(fd) for fd in kept()])
"""
    assert output(run_child(SETUP + program)) == ["[]", "1 [False]"]


@pytest.mark.parametrize("asked_first", ["scope", "fault", "lambda: check(start, 1, 1)"])
def test_that_the_program_has_closed_it_is_noticed(run_child: RunChild, asked_first: str) -> None:
    program = f"""
({asked_first})()
for _ in range(3):
    os.closerange(3, 100)
    all_of_it()
print(len(kept()))
"""
    assert output(run_child(SETUP + program)) == ["1"]


def test_that_its_number_means_the_maps_of_another_process_is_noticed(run_child: RunChild) -> None:
    program = """
other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
for name in (f"/proc/{other.pid}/maps", "/dev/null"):
    all_of_it()
    (ours,) = kept()
    file = os.open(name, os.O_RDONLY)
    os.dup2(file, ours)
    all_of_it()
    print(os.readlink(f"/proc/self/fd/{ours}") == name)
    os.close(file)
    os.close(ours)
other.communicate(b"\\n")
"""
    assert output(run_child(SETUP + program)) == ["True", "True"]


def test_a_forked_child_opens_its_own(run_child: RunChild) -> None:
    program = """
all_of_it()
for _ in range(2):
    child = os.fork()
    if child:
        break
    assert kept() == []
    memory = mmap.mmap(-1, PAGE_SIZE)  # which the parent does not have
    start = buffer_range(memory)[0]
    all_of_it()
    assert [os.readlink(f"/proc/self/fd/{fd}") for fd in kept()] == [f"/proc/{os.getpid()}/maps"]
if child:
    status = os.waitpid(child, 0)[1]
    all_of_it()
    print(status)
    sys.stdout.flush()
    os._exit(status != 0)
os._exit(0)
"""
    assert output(run_child(SETUP + program)) == ["0", "0"]
