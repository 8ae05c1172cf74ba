"""mmap, munmap and mremap against the running kernel."""

import ctypes
import os
from collections.abc import Callable, Iterator

import pytest

from memprot import PAGE_SIZE, AddressSpace, Prot, calls
from memprot.calls import MapFlag, MemfdFlag, RemapFlag

Answer = Callable[..., str]
PRIVATE = MapFlag.PRIVATE | MapFlag.ANONYMOUS


@pytest.fixture
def memory_file() -> Iterator[int]:
    fd = calls.memfd_create("mapped", MemfdFlag.CLOEXEC | MemfdFlag.ALLOW_SEALING)
    os.ftruncate(fd, 4 * PAGE_SIZE)
    yield fd
    os.close(fd)


def mapped(address: int) -> bool:
    return AddressSpace().find(address) is not None


@pytest.mark.parametrize(
    ("length", "flags", "offset", "expected"),
    [
        (0, PRIVATE, 0, "EINVAL"),
        (PAGE_SIZE, MapFlag.ANONYMOUS, 0, "EINVAL"),
        (PAGE_SIZE, PRIVATE, 1, "EINVAL"),
        (PAGE_SIZE, PRIVATE | 1 << 40, 0, "success"),
        (PAGE_SIZE, MapFlag.PRIVATE, 0, "EBADF"),
        (-1, PRIVATE, 0, "ENOMEM"),
        (1 << 62, PRIVATE, 0, "ENOMEM"),
        (PAGE_SIZE, MapFlag.SHARED | MapFlag.ANONYMOUS | MapFlag.GROWSDOWN, 0, "EINVAL"),
    ],
)
def test_each_refusal_of_mmap(answer: Answer, length: int, flags: int, offset: int, expected: str) -> None:
    found: list[int] = []

    def mmap(*arguments: int) -> None:
        found.append(calls.mmap(*arguments))

    assert answer(mmap, 0, length, Prot.READ, flags, -1, offset) == expected
    for address in found:
        calls.munmap(address, length)


def test_refusals_of_mmap_that_depend_on_the_file(answer: Answer, memory_file: int) -> None:
    length, prot = PAGE_SIZE, Prot.READ | Prot.WRITE
    assert answer(calls.mmap, 0, length, prot, MapFlag.SHARED_VALIDATE | MapFlag.SYNC, memory_file) in (
        "EOPNOTSUPP",
        "ENOTSUP",
    )
    assert answer(calls.mmap, 0, 1 << 46, prot, MapFlag.SHARED, memory_file, (1 << 64) - PAGE_SIZE) == "EOVERFLOW"
    with open("/proc/self/exe", "rb") as executable:
        assert answer(calls.mmap, 0, length, prot, MapFlag.SHARED, executable.fileno()) == "EACCES"
    with open("/proc/self/status", "rb") as text:
        assert answer(calls.mmap, 0, length, Prot.READ, MapFlag.PRIVATE, text.fileno()) == "ENODEV"
    reading, writing = os.pipe()
    assert answer(calls.mmap, 0, length, Prot.READ, MapFlag.PRIVATE, reading) in ("ENODEV", "EACCES")
    for fd in (reading, writing):
        os.close(fd)


def test_fixed_replaces_and_noreplace_does_not(pages: int, answer: Answer) -> None:
    ctypes.memset(pages, 7, PAGE_SIZE)
    assert answer(calls.mmap, pages, PAGE_SIZE, 3, PRIVATE | MapFlag.FIXED_NOREPLACE) == "EEXIST"
    assert ctypes.string_at(pages, 1) == b"\7"
    assert calls.mmap(pages, PAGE_SIZE, 3, PRIVATE | MapFlag.FIXED) == pages
    assert ctypes.string_at(pages, 1) == b"\0"
    assert answer(calls.mmap, pages + 1, PAGE_SIZE, 3, PRIVATE | MapFlag.FIXED) == "EINVAL"


def test_a_hint_is_a_wish(pages: int) -> None:
    calls.munmap(pages + PAGE_SIZE, PAGE_SIZE)
    assert calls.mmap(pages + PAGE_SIZE, PAGE_SIZE, 3, PRIVATE) == pages + PAGE_SIZE
    elsewhere = calls.mmap(pages, PAGE_SIZE, 3, PRIVATE)
    assert elsewhere != pages
    calls.munmap(elsewhere, PAGE_SIZE)


def test_munmap_takes_whole_pages_and_does_not_mind_holes(pages: int) -> None:
    calls.munmap(pages + PAGE_SIZE, 1)
    assert [mapped(pages + n * PAGE_SIZE) for n in range(4)] == [True, False, True, True]
    calls.munmap(pages, 3 * PAGE_SIZE)
    assert [mapped(pages + n * PAGE_SIZE) for n in range(4)] == [False, False, False, True]


@pytest.mark.parametrize(("offset", "length"), [(1, PAGE_SIZE), (0, 0), (0, -1), (0, 1 << 62), (0, -PAGE_SIZE)])
def test_each_refusal_of_munmap(pages: int, answer: Answer, offset: int, length: int) -> None:
    assert answer(calls.munmap, pages + offset, length) == "EINVAL"


def test_mremap_grows_shrinks_and_moves(pages: int) -> None:
    ctypes.memset(pages, 7, 2 * PAGE_SIZE)
    assert calls.mremap(pages, 4 * PAGE_SIZE, 2 * PAGE_SIZE) == pages
    assert not mapped(pages + 2 * PAGE_SIZE)
    assert calls.mremap(pages, 2 * PAGE_SIZE, 4 * PAGE_SIZE) == pages
    moved = calls.mremap(pages, 4 * PAGE_SIZE, 64 * PAGE_SIZE, RemapFlag.MAYMOVE)
    assert moved != pages
    assert not mapped(pages)
    assert ctypes.string_at(moved, 2 * PAGE_SIZE) == b"\7" * 2 * PAGE_SIZE
    back = calls.mremap(moved, 64 * PAGE_SIZE, 4 * PAGE_SIZE, RemapFlag.MAYMOVE | RemapFlag.FIXED, pages)
    assert back == pages
    assert ctypes.string_at(pages, 1) == b"\7"


def test_mremap_that_leaves_the_old_place_mapped(pages: int) -> None:
    ctypes.memset(pages, 7, PAGE_SIZE)
    flags = RemapFlag.MAYMOVE | RemapFlag.DONTUNMAP
    moved = calls.mremap(pages, PAGE_SIZE, PAGE_SIZE, flags)
    assert (ctypes.string_at(pages, 1), ctypes.string_at(moved, 1)) == (b"\0", b"\7")
    calls.munmap(moved, PAGE_SIZE)


def test_mremap_of_nothing_makes_a_second_mapping_of_shared_memory(memory_file: int, answer: Answer) -> None:
    first = calls.mmap(0, PAGE_SIZE, 3, MapFlag.SHARED, memory_file)
    second = calls.mremap(first, 0, PAGE_SIZE, RemapFlag.MAYMOVE)
    ctypes.memset(first, 7, 1)
    assert ctypes.string_at(second, 1) == b"\7"
    for address in (first, second):
        calls.munmap(address, PAGE_SIZE)


@pytest.mark.parametrize(
    ("offset", "old", "new", "flags", "target", "expected"),
    [
        (1, PAGE_SIZE, PAGE_SIZE, 0, None, "EINVAL"),
        (0, PAGE_SIZE, 0, 0, None, "EINVAL"),
        (0, PAGE_SIZE, PAGE_SIZE, 8, None, "EINVAL"),
        (0, PAGE_SIZE, PAGE_SIZE, 1 << 40, None, "EINVAL"),
        (0, PAGE_SIZE, PAGE_SIZE, RemapFlag.FIXED, 2, "EINVAL"),
        (0, PAGE_SIZE, PAGE_SIZE, RemapFlag.FIXED | RemapFlag.MAYMOVE, 1, "EINVAL"),
        (0, 2 * PAGE_SIZE, PAGE_SIZE, RemapFlag.FIXED | RemapFlag.MAYMOVE, PAGE_SIZE, "EINVAL"),
        (0, PAGE_SIZE, 2 * PAGE_SIZE, RemapFlag.DONTUNMAP | RemapFlag.MAYMOVE, None, "EINVAL"),
        (0, 0, PAGE_SIZE, RemapFlag.MAYMOVE, None, "EINVAL"),
        (4 * PAGE_SIZE, PAGE_SIZE, 2 * PAGE_SIZE, RemapFlag.MAYMOVE, None, "EFAULT"),
        (0, PAGE_SIZE, 2 * PAGE_SIZE, 0, None, "ENOMEM"),
        (0, 4 * PAGE_SIZE, 1 << 46, RemapFlag.MAYMOVE, None, "ENOMEM"),
    ],
)
def test_each_refusal_of_mremap(
    pages: int, answer: Answer, offset: int, old: int, new: int, flags: int, target: int | None, expected: str
) -> None:
    to = None if target is None else pages + target
    assert answer(calls.mremap, pages + offset, old, new, flags, to) == expected
