"""mbind, set_mempolicy, get_mempolicy and move_pages against the running kernel; a machine has at least node 0."""

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from memprot import PAGE_SIZE, calls
from memprot.calls import NumaFlag, NumaMode, NumaModeFlag

Answer = Callable[..., str]


@pytest.fixture(autouse=True)
def default_policy() -> Iterator[None]:
    yield
    calls.set_mempolicy(NumaMode.DEFAULT)


@pytest.mark.parametrize(
    ("mode", "nodes", "told"),
    [
        (NumaMode.BIND, [0], (NumaMode.BIND, (0,))),
        (NumaMode.INTERLEAVE, {0}, (NumaMode.INTERLEAVE, (0,))),
        (NumaMode.PREFERRED, (0,), (NumaMode.PREFERRED, (0,))),
        (NumaMode.PREFERRED, (), (NumaMode.LOCAL, ())),
        (NumaMode.LOCAL, (), (NumaMode.LOCAL, ())),
        (NumaMode.DEFAULT, (), (NumaMode.DEFAULT, ())),
        (NumaMode.BIND | NumaModeFlag.STATIC_NODES, [0], (NumaMode.BIND | NumaModeFlag.STATIC_NODES, (0,))),
    ],
)
def test_a_policy_is_told_as_it_was_set(
    pages: int, mode: int, nodes: object, told: tuple[int, tuple[int, ...]]
) -> None:
    calls.set_mempolicy(mode, nodes)  # type: ignore[arg-type]
    assert calls.get_mempolicy() == told
    calls.set_mempolicy(NumaMode.DEFAULT)
    calls.mbind(pages, PAGE_SIZE, mode, nodes)  # type: ignore[arg-type]
    assert calls.get_mempolicy(pages) == told
    assert calls.get_mempolicy(pages + PAGE_SIZE) == (NumaMode.DEFAULT, ())


def test_a_policy_is_of_one_thread() -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []

    def other() -> None:
        calls.set_mempolicy(NumaMode.BIND, [0])
        seen.append(calls.get_mempolicy())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [(NumaMode.BIND, (0,))]
    assert calls.get_mempolicy() == (NumaMode.DEFAULT, ())


@pytest.mark.parametrize(
    ("mode", "nodes", "expected"),
    [
        (NumaMode.BIND, (), "EINVAL"),
        (NumaMode.BIND, [1023], "EINVAL"),
        (NumaMode.BIND, [32767], "EINVAL"),
        (NumaMode.DEFAULT, [0], "EINVAL"),
        (99, (), "EINVAL"),
        (NumaMode.BIND | NumaModeFlag.STATIC_NODES | NumaModeFlag.RELATIVE_NODES, [0], "EINVAL"),
    ],
)
def test_each_refusal_of_a_policy(pages: int, answer: Answer, mode: int, nodes: tuple[int, ...], expected: str) -> None:
    assert answer(calls.set_mempolicy, mode, nodes) == expected
    assert answer(calls.mbind, pages, PAGE_SIZE, mode, nodes) == expected


@pytest.mark.parametrize(
    ("offset", "length", "flags", "expected"),
    [
        (1, PAGE_SIZE, 0, "EINVAL"),
        (0, PAGE_SIZE, 16, "EINVAL"),
        (0, PAGE_SIZE, NumaFlag.LAZY, "EINVAL"),
        (0, -PAGE_SIZE, 0, "EINVAL"),
        (0, 5 * PAGE_SIZE, 0, "EFAULT"),
        (4 * PAGE_SIZE, PAGE_SIZE, 0, "EFAULT"),
        (0, 0, 0, "success"),
        (0, PAGE_SIZE, NumaFlag.MOVE | NumaFlag.STRICT, "success"),
    ],
)
def test_each_refusal_of_mbind(pages: int, answer: Answer, offset: int, length: int, flags: int, expected: str) -> None:
    assert answer(calls.mbind, pages + offset, length, NumaMode.BIND, [0], flags) == expected


def test_where_nothing_is_mapped_there_is_no_policy(pages: int, answer: Answer) -> None:
    assert answer(calls.get_mempolicy, pages + 4 * PAGE_SIZE) == "EFAULT"
    assert answer(calls.get_mempolicy, -1) == "EFAULT"


def test_move_pages_tells_where_pages_are(pages: int) -> None:
    ctypes.memset(pages, 7, PAGE_SIZE)
    addresses = (pages, pages + PAGE_SIZE, pages + 4 * PAGE_SIZE)
    here, absent, unmapped = calls.move_pages(0, addresses)
    assert here >= 0
    assert (absent, unmapped) == (-errno.ENOENT, -errno.EFAULT)
    assert calls.move_pages(os.getpid(), [pages], [here], NumaFlag.MOVE) == [here]
    assert calls.move_pages(0, []) == []


def test_each_refusal_of_move_pages(pages: int, answer: Answer) -> None:
    assert answer(calls.move_pages, 0, [pages], None, 1) == "EINVAL"
    assert answer(calls.move_pages, 0, [pages], None, NumaFlag.MOVE | 8) == "EINVAL"
    assert answer(calls.move_pages, 0x7FFFFFFF, [pages]) == "ESRCH"
    ctypes.memset(pages, 7, PAGE_SIZE)
    assert answer(calls.move_pages, 0, [pages], [32767], NumaFlag.MOVE) == "ENODEV"
