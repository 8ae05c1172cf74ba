"""madvise, process_madvise, mincore and msync against the running kernel."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from memprot import PAGE_SIZE, Prot, calls, features
from memprot.calls import Advice, MapFlag, SyncFlag

Answer = Callable[..., str]
VmFlags = Callable[[int], set[str]]
PRIVATE = MapFlag.PRIVATE | MapFlag.ANONYMOUS


@pytest.fixture
def self_fd() -> Iterator[int]:
    fd = os.pidfd_open(os.getpid())
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("advice", "opposite", "flag"),
    [
        (Advice.DONTFORK, Advice.DOFORK, "dc"),
        (Advice.DONTDUMP, Advice.DODUMP, "dd"),
        (Advice.WIPEONFORK, Advice.KEEPONFORK, "wf"),
        (Advice.RANDOM, Advice.NORMAL, "rr"),
        (Advice.SEQUENTIAL, Advice.NORMAL, "sr"),
    ],
)
def test_advice_that_is_a_flag_is_set_and_taken_back(
    pages: int, vm_flags: VmFlags, advice: Advice, opposite: Advice, flag: str
) -> None:
    calls.madvise(pages + PAGE_SIZE, PAGE_SIZE, advice)
    assert [flag in vm_flags(pages + n * PAGE_SIZE) for n in range(3)] == [False, True, False]
    calls.madvise(pages, 4 * PAGE_SIZE, opposite)
    assert flag not in vm_flags(pages + PAGE_SIZE)


def test_populated_pages_are_in_memory(pages: int) -> None:
    calls.madvise(pages + PAGE_SIZE, PAGE_SIZE, Advice.POPULATE_WRITE)
    assert calls.mincore(pages, 4 * PAGE_SIZE) == b"\0\1\0\0"


@pytest.mark.parametrize(
    ("offset", "length", "advice", "expected"),
    [
        (1, PAGE_SIZE, Advice.DONTNEED, "EINVAL"),
        (0, -1, Advice.DONTNEED, "EINVAL"),
        (0, -PAGE_SIZE, Advice.DONTNEED, "EINVAL"),
        (0, PAGE_SIZE, 9999, "EINVAL"),
        (0, PAGE_SIZE, -1, "EINVAL"),
        (0, 5 * PAGE_SIZE, Advice.DONTNEED, "ENOMEM"),
        (0, 0, Advice.DONTNEED, "success"),
        (0, 0, 9999, "EINVAL"),
        (0, PAGE_SIZE, Advice.REMOVE, "EINVAL"),
        (0, PAGE_SIZE, (1 << 32) + Advice.DONTNEED, "success"),
    ],
)
def test_each_refusal_of_madvise(
    pages: int, answer: Answer, offset: int, length: int, advice: int, expected: str
) -> None:
    """The last one: of the advice the kernel sees 32 bits."""
    assert answer(calls.madvise, pages + offset, length, advice) == expected


def test_advice_to_a_range_with_a_hole_reaches_what_is_behind_the_hole(pages: int, answer: Answer) -> None:
    ctypes.memset(pages, 7, 4 * PAGE_SIZE)
    calls.munmap(pages + PAGE_SIZE, PAGE_SIZE)
    assert answer(calls.madvise, pages, 4 * PAGE_SIZE, Advice.DONTNEED) == "ENOMEM"
    assert ctypes.string_at(pages + 3 * PAGE_SIZE, 1) == b"\0"


def test_locked_pages_are_not_dropped(pages: int, answer: Answer) -> None:
    calls.mlock(pages, PAGE_SIZE)
    assert answer(calls.madvise, pages, PAGE_SIZE, Advice.DONTNEED) == "EINVAL"
    if features.available("madv_guard"):
        assert answer(calls.madvise, pages, PAGE_SIZE, Advice.GUARD_INSTALL) == "EINVAL"
    calls.munlock(pages, PAGE_SIZE)


def test_process_madvise_tells_how_many_bytes_it_advised(pages: int, self_fd: int) -> None:
    ranges = ((start, start + PAGE_SIZE) for start in (pages, pages + 2 * PAGE_SIZE))
    assert calls.process_madvise(self_fd, ranges, Advice.COLD) == 2 * PAGE_SIZE
    assert calls.process_madvise(self_fd, [], Advice.COLD) == 0
    part = [(pages, pages + PAGE_SIZE), (pages + 4 * PAGE_SIZE, pages + 5 * PAGE_SIZE)]
    assert calls.process_madvise(self_fd, part, Advice.COLD) == PAGE_SIZE


def test_another_process_can_be_advised(answer: Answer) -> None:
    command = [sys.executable, "-c", "import ctypes; b = ctypes.create_string_buffer(9); print(id(b)); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        address = int(child.stdout.readline()) // PAGE_SIZE * PAGE_SIZE
        fd = os.pidfd_open(child.pid)
        page = [(address, address + PAGE_SIZE)]
        if os.geteuid() == 0:
            assert calls.process_madvise(fd, page, Advice.COLD) == PAGE_SIZE
        else:
            assert answer(calls.process_madvise, fd, page, Advice.COLD) == "EPERM"
        assert answer(calls.process_madvise, fd, page, Advice.DONTNEED) == "EINVAL"
        child.communicate("\n")
    assert answer(calls.process_madvise, fd, page, Advice.COLD) == "ESRCH"
    os.close(fd)


def test_each_refusal_of_process_madvise(pages: int, self_fd: int, answer: Answer) -> None:
    page = [(pages, pages + PAGE_SIZE)]
    assert answer(calls.process_madvise, -1, page, Advice.COLD) == "EBADF"
    with open("/dev/null") as file:
        assert answer(calls.process_madvise, file.fileno(), page, Advice.COLD) == "EBADF"
    assert answer(calls.process_madvise, self_fd, page, Advice.COLD, 1) == "EINVAL"
    assert answer(calls.process_madvise, self_fd, page, 9999) == "EINVAL"
    assert answer(calls.process_madvise, self_fd, [(pages + 1, pages + PAGE_SIZE)], Advice.COLD) == "EINVAL"
    assert answer(calls.process_madvise, self_fd, page * 1025, Advice.COLD) == "EINVAL"
    assert (
        answer(calls.process_madvise, self_fd, [(pages + 4 * PAGE_SIZE, pages + 5 * PAGE_SIZE)], Advice.COLD)
        == "ENOMEM"
    )


def test_mincore_has_a_byte_for_each_page_however_many_there_are() -> None:
    count = 70_000
    address = calls.mmap(0, count * PAGE_SIZE, Prot.READ | Prot.WRITE, PRIVATE | MapFlag.NORESERVE)
    for n in (0, 65_535, 65_536, count - 1):
        ctypes.memset(address + n * PAGE_SIZE, 1, 1)
    # Huge pages may have brought neighbours in.
    found = calls.mincore(address, count * PAGE_SIZE - 1)
    assert len(found) == count
    assert [found[n] & 1 for n in (0, 65_535, 65_536, count - 1)] == [1] * 4
    assert sum(found) < count
    calls.munmap(address, count * PAGE_SIZE)


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (1, PAGE_SIZE, "EINVAL"),
        (1, 0, "EINVAL"),
        (0, 0, "success"),
        (0, 5 * PAGE_SIZE, "ENOMEM"),
        (4 * PAGE_SIZE, PAGE_SIZE, "ENOMEM"),
        (0, 1 << 46, "ENOMEM"),
        (0, -1, "ENOMEM"),
        (0, (1 << 64) - PAGE_SIZE, "ENOMEM"),
    ],
)
def test_each_refusal_of_mincore(pages: int, answer: Answer, offset: int, length: int, expected: str) -> None:
    assert answer(calls.mincore, pages + offset, length) == expected


def test_msync_accepts_a_shared_mapping_of_a_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("synced") / "file"
    path.write_bytes(bytes(PAGE_SIZE))
    with path.open("r+b") as file:
        address = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, MapFlag.SHARED, file.fileno())
    ctypes.memset(address, 7, 1)
    for flags in (SyncFlag.SYNC, SyncFlag.ASYNC, SyncFlag.SYNC | SyncFlag.INVALIDATE):
        calls.msync(address, PAGE_SIZE, flags)
    assert path.read_bytes()[:1] == b"\7"
    calls.munmap(address, PAGE_SIZE)


@pytest.mark.parametrize(
    ("offset", "length", "flags", "expected"),
    [
        (1, PAGE_SIZE, SyncFlag.SYNC, "EINVAL"),
        (0, PAGE_SIZE, SyncFlag.SYNC | SyncFlag.ASYNC, "EINVAL"),
        (0, PAGE_SIZE, 8, "EINVAL"),
        (0, 5 * PAGE_SIZE, SyncFlag.SYNC, "ENOMEM"),
        (0, -PAGE_SIZE, SyncFlag.SYNC, "ENOMEM"),
        (0, 0, SyncFlag.SYNC, "success"),
        (0, PAGE_SIZE, 0, "success"),
    ],
)
def test_each_refusal_of_msync(pages: int, answer: Answer, offset: int, length: int, flags: int, expected: str) -> None:
    assert answer(calls.msync, pages + offset, length, flags) == expected


def test_locked_memory_is_not_invalidated(pages: int, answer: Answer) -> None:
    calls.mlock(pages, PAGE_SIZE)
    assert answer(calls.msync, pages, PAGE_SIZE, SyncFlag.INVALIDATE) == "EBUSY"
    calls.munlock(pages, PAGE_SIZE)
