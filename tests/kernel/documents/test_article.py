"""What the article says, against the running kernel."""

import ctypes
import errno
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from memprot import PAGE_SIZE, AddressSpace, Prot, calls
from memprot.flags import MapFlag, MemfdFlag

if TYPE_CHECKING:
    from tests.kernel.documents.conftest import Pages, Refusal


def test_memory_made_read_only_still_changes_through_another_mapping() -> None:
    """So what others write has not come to an end when mprotect returns."""
    descriptor = calls.memfd_create("two", MemfdFlag.CLOEXEC)
    os.ftruncate(descriptor, PAGE_SIZE)
    protection = Prot.READ | Prot.WRITE
    one, other = (calls.mmap(0, PAGE_SIZE, protection, MapFlag.SHARED, descriptor) for _ in range(2))
    os.close(descriptor)
    calls.mprotect(one, PAGE_SIZE, Prot.READ)
    ctypes.memset(other, ord("x"), 1)
    assert ctypes.string_at(one, 1) == b"x"
    for page in (one, other):
        calls.munmap(page, PAGE_SIZE)


def test_no_write_of_another_thread_arrives_once_a_page_is_read_only() -> None:
    """Looked at through a second mapping, and written by system calls, which fail where a store would die."""
    descriptor = calls.memfd_create("two", MemfdFlag.CLOEXEC)
    os.ftruncate(descriptor, PAGE_SIZE)
    protection = Prot.READ | Prot.WRITE
    one, other = (calls.mmap(0, PAGE_SIZE, protection, MapFlag.SHARED, descriptor) for _ in range(2))
    os.close(descriptor)
    target = (ctypes.c_char * 8).from_address(one)
    errors: list[int | None] = []

    def write() -> None:
        with open("/dev/urandom", "rb", buffering=0) as source:
            try:
                while True:
                    os.readv(source.fileno(), [target])
            except OSError as error:
                errors.append(error.errno)

    writer = threading.Thread(target=write)
    writer.start()
    while not any(ctypes.string_at(other, 8)):
        pass
    calls.mprotect(one, PAGE_SIZE, Prot.READ)
    before = ctypes.string_at(other, 8)
    writer.join()
    assert ctypes.string_at(other, 8) == before
    assert errors == [errno.EFAULT]
    for page in (one, other):
        calls.munmap(page, PAGE_SIZE)


def test_only_the_page_of_the_address_changes_when_the_length_is_one_page(pages: "Pages") -> None:
    """The article's function takes a length and does not use it."""
    address, length = pages.address + PAGE_SIZE - 8, 16
    page = address & -PAGE_SIZE
    calls.mprotect(page, PAGE_SIZE, Prot.READ)
    assert pages.prots == ["r--", "rw-", "rw-", "rw-"]
    calls.mprotect(page, address + length - page, Prot.READ)
    assert pages.prots == ["r--", "r--", "rw-", "rw-"]


def test_a_mapping_put_over_it_ends_a_protection_too(pages: "Pages") -> None:
    calls.mprotect(pages.address, PAGE_SIZE, Prot.NONE)
    fixed = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED
    calls.mmap(pages.address, PAGE_SIZE, Prot.READ | Prot.WRITE, fixed)
    assert pages.prots[0] == "rw-"


INHERITED = """
import os
from memprot import PAGE_SIZE, AddressSpace, Prot, calls
from memprot.flags import MapFlag
page = calls.mmap(0, PAGE_SIZE, Prot.READ, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
child = os.fork()
if child == 0:
    inherited = AddressSpace().find(page).prot == Prot.READ
    calls.mprotect(page, PAGE_SIZE, Prot.NONE)
    os._exit(0 if inherited else 1)
print(os.waitpid(child, 0)[1], AddressSpace().find(page).prot)
"""


def test_a_child_inherits_protections_and_changes_only_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", INHERITED], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["0", "r--"], done.stderr


BLOCKED = """
import errno
from memprot import PAGE_SIZE, AddressSpace, Prot, ProtectionError, calls
from memprot.flags import MapFlag
end = (calls.brk() + PAGE_SIZE - 1) // PAGE_SIZE * PAGE_SIZE + 64 * PAGE_SIZE
calls.mmap(end, PAGE_SIZE, Prot.NONE, MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED_NOREPLACE)
try:
    calls.sbrk(128 * PAGE_SIZE)
except ProtectionError as error:
    print(errno.errorcode[error.errno])
"""


def test_the_heap_grows_only_as_far_as_the_next_mapping() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("ENOMEM\n", "")


def test_a_large_block_of_malloc_is_not_in_the_heap() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    block = libc.malloc(ctypes.c_size_t(1 << 28))
    mapping = AddressSpace().find(block)
    libc.free(ctypes.c_void_p(block))
    assert mapping is not None
    assert mapping.kind == "anonymous"


def test_a_line_of_maps_may_have_no_letters_at_all_and_no_path(pages: "Pages") -> None:
    calls.mprotect(pages.address, pages.size, Prot.NONE)
    start = f"{pages.address:08x}-{pages.address + pages.size:08x} "
    with open("/proc/self/maps") as maps:
        (line,) = (line for line in maps if line.startswith(start))
    assert line.split() == [start.strip(), "---p", "00000000", "00:00", "0"]


def test_the_page_of_vsyscall_is_listed_but_is_no_memory_of_the_process(refusal: "Refusal") -> None:
    found = [mapping for mapping in AddressSpace() if mapping.kind == "vsyscall"]
    if not found:
        pytest.skip("this kernel has no such page")
    assert refusal(calls.mprotect, found[0].start, PAGE_SIZE, Prot.READ | Prot.EXEC) == errno.ENOMEM
