"""Where a change of protection was refused, and what it had changed before: `.start .stop .mapping .applied`."""

import os
import resource
from collections.abc import Iterator

import pytest

from memprot import PAGE_SIZE, AddressSpace, Prot, ProtectionError, Reason, calls
from memprot.calls import MapFlag
from memprot.diagnosis.causes import CAUSES

ANONYMOUS = MapFlag.PRIVATE | MapFlag.ANONYMOUS
# Where the kernel puts nothing by itself.
BASE = 0x2100_0000_0000


@pytest.fixture
def pages() -> Iterator[int]:
    """Eight writable pages, and afterwards nothing."""
    address = calls.mmap(BASE, 8 * PAGE_SIZE, 3, ANONYMOUS | MapFlag.FIXED_NOREPLACE)
    yield address
    calls.munmap(address, 8 * PAGE_SIZE)


def failure(address: int, length: int, prot: int) -> ProtectionError:
    with pytest.raises(ProtectionError) as caught:
        calls.mprotect(address, length, prot)
    return caught.value


def prots(address: int) -> list[str]:
    found = [AddressSpace().find(address + page * PAGE_SIZE) for page in range(8)]
    return ["   " if mapping is None else str(mapping.prot) for mapping in found]


def test_what_lies_before_the_first_hole_was_changed(pages: int) -> None:
    calls.munmap(pages + 2 * PAGE_SIZE, PAGE_SIZE)
    calls.munmap(pages + 5 * PAGE_SIZE, PAGE_SIZE)
    error = failure(pages, 8 * PAGE_SIZE, Prot.READ)
    assert error.applied == ((pages, pages + 2 * PAGE_SIZE),)
    assert (error.start, error.stop, error.mapping) == (pages + 2 * PAGE_SIZE, pages + 3 * PAGE_SIZE, None)
    assert prots(pages) == ["r--", "r--", "   ", "rw-", "rw-", "   ", "rw-", "rw-"]


def test_a_hole_is_clipped_to_the_range(pages: int) -> None:
    calls.munmap(pages, 4 * PAGE_SIZE)
    error = failure(pages + PAGE_SIZE, PAGE_SIZE + 1, Prot.READ)
    assert (error.start, error.stop, error.applied) == (pages + PAGE_SIZE, pages + 3 * PAGE_SIZE, ())
    error = failure(pages + 7 * PAGE_SIZE, 3 * PAGE_SIZE, Prot.READ)
    assert (error.start, error.stop) == (pages + 8 * PAGE_SIZE, pages + 10 * PAGE_SIZE)
    assert error.applied == ((pages + 7 * PAGE_SIZE, pages + 8 * PAGE_SIZE),)


def test_a_mapping_that_refuses_is_named_and_those_before_it_were_changed(pages: int) -> None:
    memory = calls.memfd_create("refuses")
    os.ftruncate(memory, PAGE_SIZE)
    file = os.open(f"/proc/self/fd/{memory}", os.O_RDONLY)
    middle = pages + 3 * PAGE_SIZE
    calls.mmap(middle, PAGE_SIZE, 1, MapFlag.SHARED | MapFlag.FIXED, file)
    os.close(file)
    os.close(memory)
    calls.mprotect(pages, PAGE_SIZE, 0)
    error = failure(pages, 8 * PAGE_SIZE, Prot.READ | Prot.WRITE | Prot.EXEC)
    assert error.reason is Reason.FILE_READ_ONLY
    assert error.mapping == AddressSpace().find(middle)
    assert (error.start, error.stop, error.applied) == (middle, middle + PAGE_SIZE, ((pages, middle),))
    assert prots(pages)[:5] == ["rwx", "rwx", "rwx", "r--", "rw-"]


def test_nothing_was_changed_where_the_first_page_refuses(pages: int) -> None:
    calls.munmap(pages, PAGE_SIZE)
    assert failure(pages, 8 * PAGE_SIZE, Prot.READ).applied == ()


def test_the_change_begins_at_the_start_of_a_growing_mapping(pages: int) -> None:
    calls.mmap(pages, 2 * PAGE_SIZE, 3, ANONYMOUS | MapFlag.FIXED | MapFlag.GROWSDOWN)
    calls.munmap(pages + 3 * PAGE_SIZE, PAGE_SIZE)
    error = failure(pages + PAGE_SIZE, 3 * PAGE_SIZE, Prot.READ | Prot.GROWSDOWN)
    assert error.reason is Reason.HOLE
    assert error.applied == ((pages, pages + 3 * PAGE_SIZE),)
    assert prots(pages)[:4] == ["r--", "r--", "r--", "   "]


def test_nothing_was_changed_where_a_mapping_does_not_grow(pages: int) -> None:
    error = failure(pages + PAGE_SIZE, PAGE_SIZE, Prot.READ | Prot.WRITE | Prot.GROWSDOWN)
    assert (error.reason, error.applied) == (Reason.NOT_GROWING, ())


def test_length_zero_succeeds_and_does_nothing(pages: int) -> None:
    for address, prot in ((pages, 0), (pages, 1 << 40), (0, 7)):
        calls.mprotect(address, 0, prot)
    assert prots(pages) == ["rw-"] * 8


def test_causes_are_found_with_no_descriptor_left(pages: int) -> None:
    calls.munmap(pages + PAGE_SIZE, PAGE_SIZE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    read_only = os.open("/proc/self/exe", os.O_RDONLY)
    calls.mmap(pages, PAGE_SIZE, 1, MapFlag.SHARED | MapFlag.FIXED, read_only)
    try:
        for limit in (read_only, 0):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            assert failure(pages + PAGE_SIZE, PAGE_SIZE, 1).reason is Reason.HOLE
            error = failure(pages, PAGE_SIZE, 3)
            assert (error.reason, error.mapping) == (Reason.FILE_READ_ONLY, AddressSpace().find(pages))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(read_only)


def test_causes_are_found_when_every_descriptor_is_in_use(pages: int) -> None:
    calls.munmap(pages + PAGE_SIZE, PAGE_SIZE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        with pytest.raises(OSError, match="open files"):
            while True:
                opened.append(os.open("/dev/null", os.O_RDONLY))
        error = failure(pages, 3 * PAGE_SIZE, Prot.READ)
        assert (error.reason, error.applied) == (Reason.HOLE, ((pages, pages + PAGE_SIZE),))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for file in opened:
            os.close(file)


def test_causes_are_found_in_a_child_of_a_fork(pages: int) -> None:
    calls.munmap(pages + PAGE_SIZE, PAGE_SIZE)
    failure(pages, 3 * PAGE_SIZE, Prot.READ)
    child = os.fork()
    if child == 0:
        calls.mmap(pages + PAGE_SIZE, PAGE_SIZE, 3, ANONYMOUS | MapFlag.FIXED)
        calls.munmap(pages + 2 * PAGE_SIZE, PAGE_SIZE)
        error = failure(pages, 3 * PAGE_SIZE, Prot.READ)
        os._exit(0 if error.start == pages + 2 * PAGE_SIZE else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_what_goes_wrong_while_looking_for_a_cause_leaves_the_error_as_it_was(
    pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for failing in (MemoryError, OSError, ValueError, RecursionError):

        def fail(*_: object, kind: type[Exception] = failing) -> None:
            raise kind

        monkeypatch.setitem(CAUSES, "mprotect", fail)
        error = failure(pages + 1, PAGE_SIZE, 1)
        assert (error.errno, error.reason, error.hint, error.start) == (22, None, None, None)
        assert str(error).endswith("failed with EINVAL (Invalid argument)")


def test_an_interrupt_while_looking_for_a_cause_is_not_lost(pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(CAUSES, "mprotect", interrupt)
    with pytest.raises(KeyboardInterrupt):
        calls.mprotect(pages + 1, PAGE_SIZE, 1)
