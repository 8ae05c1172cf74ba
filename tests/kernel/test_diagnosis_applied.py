"""What calls other than mprotect had done when they were refused, and where that was."""

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memprot import PAGE_SIZE, AddressSpace, ProtectionError, Reason, calls, features
from memprot.calls import Advice, MapFlag, RemapFlag

ANONYMOUS = MapFlag.PRIVATE | MapFlag.ANONYMOUS
# Where the kernel puts nothing by itself.
BASE = 0x2180_0000_0000
PAGES = 8


@pytest.fixture
def pages() -> Iterator[int]:
    """Eight writable pages, and afterwards nothing."""
    address = calls.mmap(BASE, PAGES * PAGE_SIZE, 3, ANONYMOUS | MapFlag.FIXED_NOREPLACE)
    yield address
    calls.munmap(address, PAGES * PAGE_SIZE)


def failure(call: Callable[..., Any], *arguments: object) -> ProtectionError:
    with pytest.raises(ProtectionError) as caught:
        call(*arguments)
    return caught.value


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def place(error: ProtectionError) -> tuple[int | None, int | None]:
    return error.start, error.stop


def test_advice_was_taken_before_a_mapping_that_is_locked(pages: int) -> None:
    calls.mlock(at(4), PAGE_SIZE)
    calls.munmap(at(1), PAGE_SIZE)
    error = failure(calls.madvise, pages, PAGES * PAGE_SIZE, Advice.DONTNEED)
    assert (error.reason, place(error)) == (Reason.LOCKED, (at(4), at(5)))
    assert error.applied == ((at(0), at(1)), (at(2), at(4)))


def test_a_hole_in_a_file_is_refused_by_the_mapping_that_cannot_make_one(pages: int) -> None:
    file = calls.memfd_create("holes")
    os.ftruncate(file, PAGES * PAGE_SIZE)
    calls.mmap(at(0), 3 * PAGE_SIZE, 3, MapFlag.SHARED | MapFlag.FIXED, file)
    calls.mmap(at(3), 2 * PAGE_SIZE, 3, MapFlag.PRIVATE | MapFlag.FIXED, file)
    os.close(file)
    error = failure(calls.madvise, at(1), 3 * PAGE_SIZE, Advice.REMOVE)
    assert (error.reason, place(error)) == (Reason.FILE_READ_ONLY, (at(3), at(4)))
    assert error.mapping == AddressSpace().find(at(3))
    assert error.applied == ((at(1), at(3)),)


def test_bringing_pages_in_ends_at_the_first_hole(pages: int) -> None:
    calls.munmap(at(2), PAGE_SIZE)
    error = failure(calls.madvise, pages, PAGES * PAGE_SIZE, Advice.POPULATE_WRITE)
    assert (error.reason, place(error)) == (Reason.HOLE, (at(2), at(3)))
    assert error.applied == ((at(0), at(2)),)
    assert bytes(byte & 1 for byte in calls.mincore(at(0), 2 * PAGE_SIZE)) == bytes([1, 1])
    assert bytes(byte & 1 for byte in calls.mincore(at(3), 5 * PAGE_SIZE)) == bytes(5)


def test_bringing_pages_in_ends_at_a_page_without_a_file(pages: int) -> None:
    file = calls.memfd_create("short")
    os.ftruncate(file, 3 * PAGE_SIZE)
    calls.mmap(pages, PAGES * PAGE_SIZE, 1, MapFlag.SHARED | MapFlag.FIXED, file)
    os.close(file)
    error = failure(calls.madvise, at(1), 7 * PAGE_SIZE, Advice.POPULATE_READ)
    assert (error.reason, place(error)) == (Reason.BAD_ARGUMENT, (at(3), at(4)))
    assert error.applied == ((at(1), at(3)),)


@pytest.mark.parametrize("call", [calls.mlock, calls.munlock])
def test_what_lies_before_a_hole_is_locked_or_unlocked(pages: int, call: Callable[..., Any]) -> None:
    calls.munmap(at(3), 2 * PAGE_SIZE)
    error = failure(call, at(1), 6 * PAGE_SIZE)
    assert (error.reason, place(error)) == (Reason.HOLE, (at(3), at(5)))
    assert error.applied == ((at(1), at(3)),)


def test_all_is_locked_where_a_page_cannot_be_brought_in(pages: int, vm_flags: Callable[[int], set[str]]) -> None:
    calls.mprotect(at(2), PAGE_SIZE, 0)
    error = failure(calls.mlock, pages, 5 * PAGE_SIZE)
    assert (error.reason, place(error), error.applied) == (
        Reason.BAD_ARGUMENT,
        (at(2), at(3)),
        ((at(0), at(5)),),
    )
    assert "lo" in vm_flags(at(4))
    assert "lo" not in vm_flags(at(5))


SEALED_IN_THE_MIDDLE = """
from memprot import PAGE_SIZE, ProtectionError, calls
from memprot.calls import RemapFlag
pages = calls.mmap(0x2180_0000_0000, 8 * PAGE_SIZE, 3, 0x100022)
calls.munmap(pages + PAGE_SIZE, PAGE_SIZE)
calls.mseal(pages + 3 * PAGE_SIZE, PAGE_SIZE)
to = calls.mmap(0x2190_0000_0000, 8 * PAGE_SIZE, 0, 0x100022)
calls.munmap(to, 8 * PAGE_SIZE)
try:
    calls.mremap(pages, 8 * PAGE_SIZE, 8 * PAGE_SIZE, RemapFlag.MAYMOVE | RemapFlag.FIXED, to)
except ProtectionError as error:
    def page(address):
        return (address - pages) // PAGE_SIZE
    print(error.reason, page(error.start), page(error.stop), [(page(a), page(b)) for a, b in error.applied])
"""


@pytest.mark.skipif(not features.available("mseal"), reason="this kernel has no mseal")
def test_mappings_before_a_sealed_one_were_moved(run_child: Callable[..., Any]) -> None:
    done = run_child(SEALED_IN_THE_MIDDLE)
    if done.stdout.startswith("bad_argument"):
        pytest.skip("this kernel moves one mapping at a time")
    assert (done.stdout, done.stderr) == ("sealed 3 4 [(0, 1), (2, 3)]\n", "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        # The kernel looks at the address before it looks at the flag that is missing.
        ((BASE + 1, PAGE_SIZE, PAGE_SIZE, RemapFlag.FIXED, BASE), Reason.MISALIGNED),
        ((BASE, PAGE_SIZE, PAGE_SIZE, RemapFlag.FIXED, BASE + 1), Reason.MISALIGNED),
        ((BASE + 1, PAGE_SIZE, 0, 1 << 20, BASE), Reason.UNKNOWN_FLAGS),
        ((BASE, 4 * PAGE_SIZE, 4 * PAGE_SIZE, RemapFlag.FIXED, BASE), Reason.BAD_ARGUMENT),
    ],
)
def test_of_several_mistakes_in_mremap_the_first_that_counts_is_told(
    pages: int, arguments: tuple[int, ...], reason: Reason
) -> None:
    assert failure(calls.mremap, *arguments).reason is reason


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((BASE + 1, 0, 3, MapFlag.ANONYMOUS | MapFlag.FIXED, -1, 1), Reason.MISALIGNED),
        ((BASE + 1, 0, 3, MapFlag.ANONYMOUS | MapFlag.FIXED), Reason.BAD_ARGUMENT),
        ((BASE + 1, 1, 3, MapFlag.ANONYMOUS | MapFlag.FIXED), Reason.MISALIGNED),
        ((BASE, 1, 3, MapFlag.ANONYMOUS | MapFlag.FIXED | MapFlag.GROWSDOWN), Reason.UNKNOWN_FLAGS),
        ((BASE, 1, 3, 0x8000_0033), Reason.UNKNOWN_FLAGS),
    ],
)
def test_of_several_mistakes_in_mmap_the_first_that_counts_is_told(
    pages: int, arguments: tuple[int, ...], reason: Reason
) -> None:
    assert failure(calls.mmap, *arguments).reason is reason


def test_of_a_descriptor_the_kernel_looks_at_32_bits() -> None:
    file = os.open("/proc/self/exe", os.O_RDONLY)
    error = failure(calls.mmap, 0, PAGE_SIZE, 3, MapFlag.SHARED, 1 << 32 | file)
    os.close(file)
    assert error.reason is Reason.FILE_READ_ONLY


@pytest.mark.skipif(not features.available("madv_guard"), reason="makes a page that cannot be brought in by a guard")
def test_the_page_that_process_madvise_could_not_bring_in_is_found_for_any_length(pages: int) -> None:
    calls.madvise(at(1), PAGE_SIZE, Advice.GUARD_INSTALL)
    pidfd = os.pidfd_open(os.getpid())
    error = failure(calls.process_madvise, pidfd, [(pages, at(1) + 200)], Advice.POPULATE_WRITE)
    os.close(pidfd)
    # Kernels before Linux 6.13 take this advice from the process itself only.
    found = (
        (Reason.BAD_ARGUMENT, (at(1), at(2))) if error.errno == errno.EFAULT else (Reason.UNKNOWN_FLAGS, (None, None))
    )
    assert (error.reason, place(error)) == found
