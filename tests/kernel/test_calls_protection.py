"""pkey_mprotect and mseal against the running kernel."""

import errno
import subprocess
from collections.abc import Callable

import pytest

from memprot import PAGE_SIZE, AddressSpace, Prot, ProtectionError, calls, features
from memprot.calls import MapFlag

Answer = Callable[..., str]
RunChild = Callable[..., subprocess.CompletedProcess[str]]
PRIVATE = MapFlag.PRIVATE | MapFlag.ANONYMOUS


def prots(pages: int) -> list[str]:
    space = AddressSpace()
    return [str(mapping.prot) for n in range(4) if (mapping := space.find(pages + n * PAGE_SIZE)) is not None]


def test_pkey_mprotect_without_a_key_is_mprotect(pages: int) -> None:
    calls.pkey_mprotect(pages + PAGE_SIZE, PAGE_SIZE, Prot.READ, -1)
    assert prots(pages) == ["rw-", "r--", "rw-", "rw-"]


@pytest.mark.parametrize(
    ("offset", "length", "prot", "key", "expected"),
    [
        (1, PAGE_SIZE, 1, -1, "EINVAL"),
        (0, PAGE_SIZE, 1 << 40, -1, "EINVAL"),
        (0, PAGE_SIZE, Prot.GROWSDOWN | Prot.GROWSUP, -1, "EINVAL"),
        (0, PAGE_SIZE, Prot.GROWSDOWN, -1, "EINVAL"),
        (0, PAGE_SIZE, 1, 15, "EINVAL"),
        (0, PAGE_SIZE, 1, 16, "EINVAL"),
        (0, PAGE_SIZE, 1, -2, "EINVAL"),
        (0, 8 * PAGE_SIZE, 1, -1, "ENOMEM"),
        (0, -PAGE_SIZE, 1, -1, "ENOMEM"),
        (0, 0, 1, 99, "success"),
        (0, PAGE_SIZE, 1, (1 << 32) - 1, "success"),
        (0, PAGE_SIZE, 1, (5 << 32) + (1 << 32) - 1, "success"),
    ],
)
def test_each_refusal_of_pkey_mprotect(
    pages: int, answer: Answer, offset: int, length: int, prot: int, key: int, expected: str
) -> None:
    """The last two: of a key the kernel sees 32 bits."""
    assert answer(calls.pkey_mprotect, pages + offset, length, prot, key) == expected


def test_protections_that_a_file_does_not_allow_are_refused(answer: Answer) -> None:
    with open("/proc/self/exe", "rb") as file:
        address = calls.mmap(0, PAGE_SIZE, Prot.READ, MapFlag.SHARED, file.fileno(), 0)
    try:
        assert answer(calls.mprotect, address, PAGE_SIZE, Prot.WRITE) == "EACCES"
        assert answer(calls.pkey_mprotect, address, PAGE_SIZE, Prot.WRITE, -1) == "EACCES"
    finally:
        calls.munmap(address, PAGE_SIZE)


def test_a_range_with_a_hole_is_changed_up_to_the_hole(pages: int, answer: Answer) -> None:
    calls.munmap(pages + 2 * PAGE_SIZE, PAGE_SIZE)
    assert answer(calls.mprotect, pages, 4 * PAGE_SIZE, Prot.READ) == "ENOMEM"
    assert prots(pages) == ["r--", "r--", "rw-"]


SEALED = """
from memprot import PAGE_SIZE, ProtectionError, calls
from memprot.calls import Advice, MapFlag, RemapFlag
import errno
private = MapFlag.PRIVATE | MapFlag.ANONYMOUS
address = calls.mmap(0, 3 * PAGE_SIZE, 1, private)
calls.mseal(address, PAGE_SIZE)
calls.mseal(address, PAGE_SIZE)
attempts = {
    "mprotect": (address, PAGE_SIZE, 3),
    "pkey_mprotect": (address, PAGE_SIZE, 3, -1),
    "munmap": (address, 2 * PAGE_SIZE),
    "mremap": (address, PAGE_SIZE, 2 * PAGE_SIZE, RemapFlag.MAYMOVE),
    "mmap": (address, PAGE_SIZE, 3, private | MapFlag.FIXED),
    "madvise": (address, PAGE_SIZE, Advice.DONTNEED),
}
for name, arguments in attempts.items():
    try:
        getattr(calls, name)(*arguments)
    except ProtectionError as error:
        print(name, errno.errorcode[error.errno], isinstance(error, PermissionError))
calls.munmap(address + PAGE_SIZE, 2 * PAGE_SIZE)
"""


def test_sealed_memory_stays_as_it_is(run_child: RunChild) -> None:
    done = run_child(SEALED)
    if not features.available("mseal"):
        assert "ENOSYS" in done.stderr
        return
    names = ["mprotect", "pkey_mprotect", "munmap", "mremap", "mmap", "madvise"]
    assert done.stdout.splitlines() == [f"{name} EPERM True" for name in names]


@pytest.mark.parametrize(
    ("offset", "length", "flags", "expected"),
    [
        (0, PAGE_SIZE, 1, "EINVAL"),
        (0, PAGE_SIZE, 1 << 40, "EINVAL"),
        (1, PAGE_SIZE, 0, "EINVAL"),
        (0, -1, 0, "EINVAL"),
        (0, -PAGE_SIZE, 0, "EINVAL"),
        (0, 5 * PAGE_SIZE, 0, "ENOMEM"),
        (4 * PAGE_SIZE, PAGE_SIZE, 0, "ENOMEM"),
        (0, 0, 0, "success"),
    ],
)
def test_each_refusal_of_mseal(pages: int, answer: Answer, offset: int, length: int, flags: int, expected: str) -> None:
    expected = expected if features.available("mseal") else "ENOSYS"
    assert answer(calls.mseal, pages + offset, length, flags) == expected


def test_a_range_with_a_hole_is_not_sealed_at_all(pages: int) -> None:
    with pytest.raises(ProtectionError) as caught:
        calls.mseal(pages, 5 * PAGE_SIZE)
    assert caught.value.errno in (errno.ENOMEM, errno.ENOSYS)
    calls.mprotect(pages, 4 * PAGE_SIZE, Prot.NONE)
    assert prots(pages) == ["---"] * 4
