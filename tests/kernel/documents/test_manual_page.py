"""What the manual page of man-pages 5.11 says, against the running kernel."""

import ctypes
import errno
import mmap
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from memprot import PAGE_SIZE, AddressSpace, Prot, calls, features
from memprot.flags import MapFlag

if TYPE_CHECKING:
    from tests.kernel.documents.conftest import Pages, Refusal


@pytest.mark.parametrize("address", [0, 1 << 62, 2**64 - (1 << 20)], ids=["null", "not canonical", "kernel"])
def test_an_aligned_address_that_no_process_can_have_is_enomem_not_einval(refusal: "Refusal", address: int) -> None:
    assert refusal(calls.mprotect, address // PAGE_SIZE * PAGE_SIZE, PAGE_SIZE, Prot.READ) == errno.ENOMEM


def test_a_length_of_zero_succeeds_wherever_the_address_is_aligned(pages: "Pages", refusal: "Refusal") -> None:
    assert refusal(calls.mprotect, pages.address, 0, Prot.NONE) is None
    assert refusal(calls.mprotect, pages.address - PAGE_SIZE, 0, Prot.NONE) is None
    assert refusal(calls.mprotect, pages.address, 0, 1 << 20) is None
    assert refusal(calls.mprotect, pages.address + 1, 0, Prot.NONE) == errno.EINVAL
    assert pages.prots == ["rw-"] * 4


def test_what_was_changed_before_an_error_stays_changed(pages: "Pages", refusal: "Refusal") -> None:
    calls.munmap(pages.page(1), PAGE_SIZE)
    assert refusal(calls.mprotect, pages.address, pages.size, Prot.READ) == errno.ENOMEM
    assert pages.prots == ["r--", "", "rw-", "rw-"]


def test_the_first_reason_found_decides_the_error(pages: "Pages", refusal: "Refusal") -> None:
    """The page lists the errors; the kernel looks for them in this order."""
    hole = pages.address + pages.size
    both, unknown = Prot.GROWSDOWN | Prot.GROWSUP, 1 << 20
    assert refusal(calls.mprotect, pages.address, 0, both) == errno.EINVAL
    assert refusal(calls.mprotect, hole, 0, unknown) is None
    assert refusal(calls.mprotect, hole, 2**64 - PAGE_SIZE, unknown) == errno.ENOMEM
    assert refusal(calls.mprotect, hole, PAGE_SIZE, unknown) == errno.EINVAL
    assert refusal(calls.mprotect, hole, PAGE_SIZE, Prot.READ) == errno.ENOMEM


def test_prot_sem_is_taken_and_changes_nothing(pages: "Pages") -> None:
    calls.mprotect(pages.address, PAGE_SIZE, Prot.READ | Prot.SEM)
    calls.mprotect(pages.page(1), PAGE_SIZE, Prot.SEM)
    assert pages.prots == ["r--", "---", "rw-", "rw-"]


def test_a_mapping_that_grows_upward_is_not_to_be_had_here(refusal: "Refusal") -> None:
    flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.GROWSDOWN
    stack = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, flags)
    assert refusal(calls.mprotect, stack, PAGE_SIZE, Prot.READ | Prot.GROWSUP) == errno.EINVAL
    assert refusal(calls.mprotect, stack, PAGE_SIZE, Prot.READ | Prot.GROWSDOWN) is None
    calls.munmap(stack, PAGE_SIZE)


def test_the_kernels_own_data_refuse_to_become_writable(refusal: "Refusal") -> None:
    """vsyscall is not the only exception: a mapping that may not be written, and one that is sealed."""
    found = [mapping for mapping in AddressSpace() if mapping.kind == "vvar"]
    if not found:
        pytest.skip("this kernel maps no such data")
    answer = refusal(calls.mprotect, found[0].start, PAGE_SIZE, Prot.READ | Prot.WRITE)
    assert answer in (errno.EACCES, errno.EPERM)


def test_a_page_that_may_only_be_written_can_be_read_all_the_same(pages: "Pages") -> None:
    """Not on i386 alone: on this architecture a page-table entry has no form for it either."""
    ctypes.memset(pages.address, 5, 1)
    calls.mprotect(pages.address, PAGE_SIZE, Prot.WRITE)
    assert pages.prots[0] == "-w-"
    assert ctypes.string_at(pages.address, 1) == b"\x05"


IMPLIED = """
import ctypes
from memprot import PAGE_SIZE, AddressSpace, Prot, calls
from memprot.flags import MapFlag
page = calls.mmap(0, PAGE_SIZE, Prot.NONE, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
READ_IMPLIES_EXEC = 0x0400000
assert ctypes.CDLL(None).personality(READ_IMPLIES_EXEC) >= 0
calls.mprotect(page, PAGE_SIZE, Prot.READ)
print(AddressSpace().find(page).prot)
"""


def test_with_read_implies_exec_a_readable_page_becomes_executable() -> None:
    done = subprocess.run([sys.executable, "-c", IMPLIED], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("r-x\n", "")


def test_a_key_that_nobody_allocated_is_einval(pages: "Pages", refusal: "Refusal") -> None:
    assert refusal(calls.pkey_mprotect, pages.address, PAGE_SIZE, Prot.READ, 15) == errno.EINVAL
    assert refusal(calls.pkey_mprotect, pages.address, PAGE_SIZE, Prot.READ, 1 << 20) == errno.EINVAL
    assert pages.prots == ["rw-"] * 4


def test_without_keys_minus_one_is_mprotect_and_no_key_can_be_had(pages: "Pages", refusal: "Refusal") -> None:
    calls.pkey_mprotect(pages.address, PAGE_SIZE, Prot.READ, -1)
    assert pages.prots == ["r--", "rw-", "rw-", "rw-"]
    if features.available("protection_keys"):
        calls.pkey_free(calls.pkey_alloc(0, 0))
    else:
        # pkey_alloc(2) names ENOSPC for this; kernels answer one or the other.
        assert refusal(calls.pkey_alloc, 0, 0) in (errno.EINVAL, errno.ENOSPC)


def test_memory_without_mmap_can_be_protected_on_linux() -> None:
    """POSIX leaves it open; the page's own example does it with memalign."""
    libc = ctypes.CDLL(None)
    libc.aligned_alloc.restype = ctypes.c_void_p
    block = libc.aligned_alloc(ctypes.c_size_t(PAGE_SIZE), ctypes.c_size_t(PAGE_SIZE))
    calls.mprotect(block, PAGE_SIZE, Prot.READ)
    mapping = AddressSpace().find(block)
    # free writes into the block.
    calls.mprotect(block, PAGE_SIZE, Prot.READ | Prot.WRITE)
    libc.free(ctypes.c_void_p(block))
    assert mapping is not None
    assert mapping.prot == Prot.READ


def test_the_page_size_is_the_unit_of_the_address_and_not_of_the_length(pages: "Pages", refusal: "Refusal") -> None:
    assert PAGE_SIZE == mmap.PAGESIZE
    assert refusal(calls.mprotect, pages.address + PAGE_SIZE // 2, PAGE_SIZE // 2, Prot.READ) == errno.EINVAL
    assert refusal(calls.mprotect, pages.address, 1, Prot.READ) is None
    assert pages.prots == ["r--", "rw-", "rw-", "rw-"]
