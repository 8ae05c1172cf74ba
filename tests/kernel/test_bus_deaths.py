"""SIGBUS where it is nobody's to recover from, and file systems that have no room left."""

import signal
import subprocess
from collections.abc import Callable

import pytest
from query_filter import FILTER, NUMBER_OF_IOCTL

RunChild = Callable[..., subprocess.CompletedProcess[str]]

SETUP = """
import ctypes, mmap, os, signal, sys, tempfile
import misbehave
from memprot import PAGE_SIZE, FaultError, Region, catch_faults
from memprot.faults.engine import set_policy

def shortened(size=0):
    file = tempfile.TemporaryFile()
    file.truncate(4 * PAGE_SIZE)
    memory = mmap.mmap(file.fileno(), 4 * PAGE_SIZE)
    file.truncate(size)
    return memory
"""

SMALL_FILE_SYSTEM = """
libc = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUSER = 0x20000, 0x10000000
where = tempfile.mkdtemp().encode()
for flags in (NEWNS, NEWNS | NEWUSER):
    if libc.unshare(flags) == 0:
        libc.mount(b"none", b"/", None, 0x44000, None)  # what is mounted here stays here
        if libc.mount(b"none", where, b"tmpfs", 0, b"size=64k") == 0:
            break
else:
    print("no file system may be mounted here")
    sys.exit(0)
file = open(where + b"/full", "w+b")
file.truncate(1 << 20)
memory = mmap.mmap(file.fileno(), 1 << 20)
"""


def test_outside_every_scope_it_dies_with_a_report_where_the_memory_is_memprots(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
fd = os.memfd_create("short")
os.ftruncate(fd, PAGE_SIZE)
with open(fd, "r+b") as file:
    region = Region.from_file(file, "rw-")
    os.ftruncate(fd, 0)
    misbehave.write(region.address, 1)
""")
    assert child.returncode == -signal.SIGBUS
    assert "memprot: fatal write" in child.stderr


@pytest.mark.parametrize("policy", ["die", "raise"])
def test_outside_every_scope_files_of_others_die_as_without_memprot(run_child: RunChild, policy: str) -> None:
    child = run_child(f"{SETUP}region = Region(10)\nset_policy({policy!r})\nmemory = shortened()\nmemory[0]")
    assert (child.returncode, child.stderr) == (-signal.SIGBUS, "")


@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_scope_needs_nothing_else_of_memprot(run_child: RunChild, where: str) -> None:
    child = run_child(f"""
import mmap, os, sys, tempfile, threading
from memprot import FaultError, catch_faults

def work():
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(1 << 26)
        with mmap.mmap(file.fileno(), 0) as memory:
            for _ in range(3):
                file.truncate(100)
                try:
                    with catch_faults():
                        memory.read()
                except FaultError as fault:
                    print(fault.cause, fault.file == file.name, fault.file_size, fault.others)
                file.truncate(1 << 26)
                memory.seek(0)
    memory = mmap.mmap(-1, 100)
    memory.close()

if {where!r} == "main":
    work()
else:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
""")
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout.splitlines() == ["bus True 100 ()"] * 3


def test_a_kernel_that_answers_no_questions_is_read_instead(run_child: RunChild) -> None:
    if NUMBER_OF_IOCTL is None:
        pytest.skip("the number of ioctl is not known here")
    child = run_child(f"""{SETUP}{FILTER}
memory = shortened(100)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
for act in (memory.read, lambda: memory[5000], lambda: misbehave.write(start + 2 * PAGE_SIZE, 1, gil=False)):
    try:
        with catch_faults():
            act()
    except FaultError as fault:
        print(fault.cause, fault.file_size)
print([line.split()[1] for line in open("/proc/self/maps") if line.startswith(f"{{start:x}}-")])
region = Region(PAGE_SIZE)
try:
    with catch_faults():
        misbehave.call(region.address)
except FaultError as fault:
    print(fault.access)
""")
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout.splitlines() == ["bus 100"] * 3 + ["['rw-s']", "execute"]


def test_where_little_room_is_left_only_what_is_touched_is_covered(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
import resource
file = tempfile.TemporaryFile()
file.truncate(1 << 32)
memory = mmap.mmap(file.fileno(), 1 << 32)
file.truncate(100)
with catch_faults():
    pass
used = int(open("/proc/self/statm").read().split()[0]) * PAGE_SIZE
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
for act in (lambda: memory[5000], lambda: memory.move(1 << 20, 1 << 24, 1 << 20), lambda: memory[1 << 31]):
    try:
        with catch_faults():
            act()
    except FaultError as fault:
        print(fault.cause, fault.file_size)
print(open("/proc/self/maps").read().count(" (deleted)"))
""")
    assert (child.returncode, child.stdout) == (0, "bus 100\n" * 3 + "1\n"), child.stderr


def test_a_policy_answers_for_memprots_memory_without_a_scope(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
set_policy("raise")
with tempfile.TemporaryFile() as file:
    file.truncate(PAGE_SIZE)
    region = Region.from_file(file, "rw-")
    file.truncate(0)
    try:
        misbehave.write(region.address, 1)
    except FaultError as fault:
        print(fault.cause)
""")
    assert (child.returncode, child.stdout) == (0, "bus\n"), child.stderr


def test_a_library_that_became_shorter_is_no_plain_data(run_child: RunChild) -> None:
    """Zeros in the place of a library's variables would do harm that nobody sees."""
    child = run_child(f"""{SETUP}
import importlib.util, shutil
source = misbehave.__file__
copy = tempfile.mkdtemp() + "/" + os.path.basename(source)
shutil.copy(source, copy)
library = ctypes.CDLL(copy)
from memprot import AddressSpace
writable = [mapping for mapping in AddressSpace() if mapping.path == copy and str(mapping.prot) == "rw-"]
with catch_faults():
    os.truncate(copy, 0)
    misbehave.write(writable[0].start, 1)
""")
    assert child.returncode == -signal.SIGBUS, child.stderr


def test_a_misaligned_access_is_another_matter(run_child: RunChild) -> None:
    """Where the processor checks alignment because the program wants it to, there is nothing to lay zeros over."""
    child = run_child(f"""{SETUP}
import platform
if platform.machine() != "x86_64":
    os.kill(os.getpid(), signal.SIGBUS)
# pushf; or dword [rsp], 0x40000; popf; mov rax, [rdi + 1]
code = bytes.fromhex("9c810c2400000400" "9d" "488b4701" "c3")
memory = mmap.mmap(-1, PAGE_SIZE, prot=7)
memory[:len(code)] = code
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
region = Region(PAGE_SIZE)
with catch_faults():
    ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(start)(region.address)
""")
    assert child.returncode == -signal.SIGBUS, child.stderr


def test_a_file_system_without_room_raises_and_what_has_room_is_kept(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}{SMALL_FILE_SYSTEM}
try:
    with catch_faults():
        memory.write(b"x" * (1 << 20))
except FaultError as fault:
    print(fault.access, fault.cause, fault.file == os.fsdecode(where + b"/full"), fault.file_size, len(fault.others))
    print(fault)
kept = 0
while kept < 1 << 20:
    try:
        with catch_faults():
            if memory[kept:kept + 1] != b"x":
                break
    except FaultError:
        break
    kept += PAGE_SIZE
print(0 < kept <= 65536)
file.truncate(kept)
file.truncate(1 << 20)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
try:
    with catch_faults():
        misbehave.set(start + kept, 1, (1 << 20) - kept, gil=False)  # has grown, but there is still no room
except FaultError as fault:
    print(fault.cause)
print(sum("full" in line for line in open("/proc/self/maps")))
""")
    assert child.returncode == 0, child.stderr
    lines = child.stdout.splitlines()
    if lines == ["no file system may be mounted here"]:
        return
    assert lines[0] == "write bus True 1048576 0"
    assert ": the file system has no room left for byte " in lines[1]
    assert lines[2:] == ["True", "bus", "1"]


def test_a_copy_from_the_end_backwards_into_a_full_file_system_is_one_fault(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}{SMALL_FILE_SYSTEM}
memory.write(b"x" * 1000)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
source = mmap.mmap(-1, 1 << 20)
address = ctypes.addressof(ctypes.c_char.from_buffer(source))
open(where + b"/other", "wb").write(bytes(60000))
try:
    with catch_faults():
        misbehave.move_backwards(start, address, 1 << 20)
except FaultError as fault:
    print(fault.cause, len(fault.others), memory[:3])
""")
    assert child.returncode == 0, child.stderr
    assert child.stdout in ("no file system may be mounted here\n", "bus 0 b'\\x00\\x00\\x00'\n")


FULL_DISK = """
import shutil, subprocess
folder = tempfile.mkdtemp()
image, where = folder + "/image", folder + "/disk"
os.mkdir(where)
with open(image, "wb") as disk:
    disk.truncate(8 << 20)
def do(*command):
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True).returncode == 0
if ctypes.CDLL(None).unshare(0x20000) or not do("mount", "--make-rprivate", "/") or not do("mkfs.ext4", "-q", image) \\
        or not do("mount", "-o", "loop", image, where):
    print("no disk can be made here")
    sys.exit(0)
file = open(where + "/sparse", "w+b")
file.write(b"kept" * 1000)
file.truncate(1 << 20)
memory = mmap.mmap(file.fileno(), 0)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
other = open(where + "/other", "wb", buffering=0)
for size in (1 << 20, 1):
    try:
        while True:
            other.write(bytes(size))
    except OSError:
        pass
"""


def test_a_library_whose_handler_recovers_keeps_what_its_own_threads_do(run_child: RunChild) -> None:
    """A scope of another thread answers only where nobody else does."""
    child = run_child(f"""{SETUP}
file = tempfile.TemporaryFile()
file.truncate(4 * PAGE_SIZE)
memory = mmap.mmap(file.fileno(), 4 * PAGE_SIZE)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
calls = []

@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def handler(number, info, context):
    calls.append(number)
    file.truncate(4 * PAGE_SIZE)

class Action(ctypes.Structure):
    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_char * 128), ("flags", ctypes.c_int),
                ("restorer", ctypes.c_void_p)]

action = Action(ctypes.cast(handler, ctypes.c_void_p), bytes(128), 4)  # SA_SIGINFO
assert ctypes.CDLL(None).sigaction(signal.SIGBUS, ctypes.byref(action), None) == 0
file.truncate(0)
with catch_faults() as scope:
    misbehave.write_from_c_thread(start + PAGE_SIZE, 7)
print(calls == [signal.SIGBUS], memory[PAGE_SIZE], scope.faults)
file.truncate(0)
try:
    with catch_faults():
        misbehave.write(start + PAGE_SIZE, 7)
except FaultError as fault:
    print(fault.cause, len(calls))
""")
    assert (child.returncode, child.stdout) == (0, "True 7 ()\nbus 1\n"), child.stderr


def test_what_a_full_disk_cannot_take_vanishes_and_what_it_has_is_read_by_others_meanwhile(run_child: RunChild) -> None:
    """A page of a sparse file can be read, as zeros, and not written where the disk has no room for it."""
    child = run_child(f"""{SETUP}{FULL_DISK}
kept = memory[:4000]
empty = memory[4 * PAGE_SIZE:]  # all pages are there, for reading
try:
    with catch_faults():
        misbehave.write_from_c_thread(start + 8 * PAGE_SIZE, 7)
        assert memory[4 * PAGE_SIZE + 1:] != empty, "the write is not seen meanwhile"
        assert memory[:4000] == kept
except FaultError as fault:
    print(fault.cause, fault.file == where + "/sparse", "has no room left" in str(fault))
try:
    with catch_faults():
        misbehave.set(start, 1, 20 * PAGE_SIZE, gil=False)
except FaultError as fault:
    print(fault.cause, fault.access, len(fault.others))
print(memory[:PAGE_SIZE] == bytes([1]) * PAGE_SIZE, set(memory[PAGE_SIZE:]))
print(sum("sparse" in line for line in open("/proc/self/maps")))
""")
    assert child.returncode == 0, child.stderr
    lines = child.stdout.splitlines()
    assert lines in (["no disk can be made here"], ["bus True True", "bus write 0", "True {0}", "1"])
