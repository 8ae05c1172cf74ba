"""What the tutorial says, against the running kernel."""

import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memprot import PAGE_SIZE, AddressSpace, FaultError, Prot, Region, calls, catch_faults
from memprot.flags import MapFlag, MemfdFlag

if TYPE_CHECKING:
    from tests.kernel.documents.conftest import MapFile, Pages, Refusal

# Python's fcntl does not have it before 3.12 (include/uapi/linux/fcntl.h).
F_SEAL_FUTURE_WRITE = 0x0010


def run(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


def test_einval_is_also_both_directions_of_growth_or_one_that_the_mapping_lacks(
    pages: "Pages", refusal: "Refusal"
) -> None:
    for grows in (Prot.GROWSDOWN | Prot.GROWSUP, Prot.GROWSDOWN, Prot.GROWSUP):
        assert refusal(calls.mprotect, pages.address, PAGE_SIZE, Prot.READ | grows) == errno.EINVAL
    assert pages.prots == ["rw-"] * 4


LIMIT = """
import errno
from memprot import PAGE_SIZE, Prot, ProtectionError, calls
from memprot.flags import MapFlag
limit = int(open("/proc/sys/vm/max_map_count").read())
if limit > 1_000_000:
    raise SystemExit("the limit of mappings is too high to reach")
pages = calls.mmap(0, 2 * limit * PAGE_SIZE, Prot.NONE, MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.NORESERVE)
code = 0
try:
    for number in range(1, 2 * limit, 2):
        calls.mprotect(pages + number * PAGE_SIZE, PAGE_SIZE, Prot.READ)
except ProtectionError as error:
    code = error.errno
calls.munmap(pages, 2 * limit * PAGE_SIZE)
print(errno.errorcode[code])
"""


def test_enomem_is_also_the_limit_of_mappings() -> None:
    done = run(LIMIT)
    if "too high" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert (done.stdout, done.stderr) == ("ENOMEM\n", "")


DATA = """
import errno, resource
from memprot import PAGE_SIZE, Prot, ProtectionError, calls
from memprot.flags import MapFlag
pages = calls.mmap(0, 1024 * PAGE_SIZE, Prot.READ, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
resource.setrlimit(resource.RLIMIT_DATA, (PAGE_SIZE, resource.RLIM_INFINITY))
code = 0
try:
    calls.mprotect(pages, 1024 * PAGE_SIZE, Prot.READ | Prot.WRITE)
except ProtectionError as error:
    code = error.errno
resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(errno.errorcode[code])
"""


def test_enomem_is_also_the_limit_of_data_when_memory_becomes_writable() -> None:
    done = run(DATA)
    assert (done.stdout, done.stderr) == ("ENOMEM\n", "")


def test_eacces_for_a_file_opened_for_reading_needs_a_shared_mapping(
    page_file: Path, map_file: "MapFile", refusal: "Refusal"
) -> None:
    private = map_file(page_file, os.O_RDONLY, MapFlag.PRIVATE)
    assert refusal(calls.mprotect, private, PAGE_SIZE, Prot.READ | Prot.WRITE) is None
    shared = map_file(page_file, os.O_RDONLY, MapFlag.SHARED)
    assert refusal(calls.mprotect, shared, PAGE_SIZE, Prot.READ | Prot.WRITE) == errno.EACCES


def test_eacces_is_also_a_file_sealed_against_writing(refusal: "Refusal") -> None:
    descriptor = calls.memfd_create("sealed", MemfdFlag.ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, PAGE_SIZE)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, F_SEAL_FUTURE_WRITE)
        page = calls.mmap(0, PAGE_SIZE, Prot.READ, MapFlag.SHARED, descriptor)
        assert refusal(calls.mprotect, page, PAGE_SIZE, Prot.READ | Prot.WRITE) == errno.EACCES
        calls.munmap(page, PAGE_SIZE)
    finally:
        os.close(descriptor)


OWN_STACK = """
import ctypes
from memprot import PAGE_SIZE, AddressSpace, Prot, calls
from memprot.flags import MapFlag
pthread = ctypes.CDLL(None)
size = 1 << 20
stack = calls.mmap(0, size, Prot.READ | Prot.WRITE, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
attributes = ctypes.create_string_buffer(64)
guard = ctypes.c_size_t()
assert pthread.pthread_attr_init(attributes) == 0
assert pthread.pthread_attr_getguardsize(attributes, ctypes.byref(guard)) == 0
print("by default:", "a guard" if guard.value else "no guard")
assert pthread.pthread_attr_setstack(attributes, ctypes.c_void_p(stack), ctypes.c_size_t(size)) == 0
lowest = []
ROUTINE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
@ROUTINE
def routine(_):
    here = ctypes.c_char()
    lowest.append(str(AddressSpace().find(stack).prot))
    return None
thread = ctypes.c_ulong()
assert pthread.pthread_create(ctypes.byref(thread), attributes, routine, None) == 0
assert pthread.pthread_join(thread, None) == 0
ctypes.memset(stack, 1, 1)
print("a stack of our own:", *lowest, "at its bottom")
"""


def test_the_guard_below_a_threads_stack_comes_from_the_c_library_not_from_the_kernel() -> None:
    done = run(OWN_STACK)
    assert done.stdout.splitlines() == ["by default: a guard", "a stack of our own: rw- at its bottom"], done.stderr


def test_below_the_main_stack_nothing_is_mapped() -> None:
    """The kernel keeps a gap free there; it maps no page for it."""
    space = AddressSpace()
    (stack,) = (mapping for mapping in space if mapping.kind == "stack")
    assert space.find(stack.start - 1) is None


def test_memory_of_malloc_shares_its_page_and_does_not_begin_with_it(refusal: "Refusal") -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    blocks: list[int] = [libc.malloc(ctypes.c_size_t(24)) for _ in range(2 * PAGE_SIZE // 24)]
    try:
        inside = [block for block in blocks if block % PAGE_SIZE]
        assert len({block // PAGE_SIZE for block in blocks}) < len(blocks)
        assert refusal(calls.mprotect, inside[0], 24, Prot.READ | Prot.WRITE) == errno.EINVAL
    finally:
        for block in blocks:
            libc.free(ctypes.c_void_p(block))


def test_an_overflow_within_the_page_reaches_no_guard_page() -> None:
    with Region(2 * PAGE_SIZE) as region:
        region.protect("---", PAGE_SIZE)
        with catch_faults():
            ctypes.memset(region.address, 1, 11)  # The buffer was meant to have 10 bytes.
        with pytest.raises(FaultError), catch_faults():
            ctypes.memset(region.address, 1, PAGE_SIZE + 1)


BUS = """
import ctypes, os, tempfile
from memprot import PAGE_SIZE, Prot, calls
from memprot.flags import MapFlag
with tempfile.TemporaryFile() as file:
    file.truncate(PAGE_SIZE)
    page = calls.mmap(0, PAGE_SIZE, Prot.READ, MapFlag.SHARED, file.fileno())
    file.truncate(0)
    ctypes.string_at(page, 1)
"""


def test_an_access_behind_the_end_of_the_file_is_sigbus() -> None:
    assert run(BUS).returncode == -signal.SIGBUS


def test_a_system_call_that_meets_protected_memory_fails_and_no_signal_comes(pages: "Pages") -> None:
    calls.mprotect(pages.address, PAGE_SIZE, Prot.READ)
    buffer = (ctypes.c_char * PAGE_SIZE).from_address(pages.address)
    with open("/dev/zero", "rb", buffering=0) as file, pytest.raises(OSError, match="Bad address") as caught:
        os.readv(file.fileno(), [buffer])
    assert caught.value.errno == errno.EFAULT


def test_code_can_be_made_writable(refusal: "Refusal") -> None:
    """Unless a security module forbids it; the main program's code is that of the interpreter."""
    code = next(mapping for mapping in AddressSpace() if mapping.prot == Prot.READ | Prot.EXEC and mapping.inode)
    answer = refusal(calls.mprotect, code.start, PAGE_SIZE, Prot.READ | Prot.WRITE | Prot.EXEC)
    assert answer in (None, errno.EACCES)
    if answer is None:
        calls.mprotect(code.start, PAGE_SIZE, Prot.READ | Prot.EXEC)
    else:
        assert Path("/sys/fs/selinux").exists()


def test_the_stack_is_not_executable_from_the_start() -> None:
    (stack,) = (mapping for mapping in AddressSpace() if mapping.kind == "stack")
    assert stack.prot == Prot.READ | Prot.WRITE
