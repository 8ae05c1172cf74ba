"""What Prot says of the running machine is what the machine does."""

import ctypes
import errno
import os
from collections.abc import Iterator

import pytest

from memprot import PAGE_SIZE, AddressSpace, Prot, ProtectionError, calls, features
from memprot.calls import MapFlag
from memprot.prot import ACCEPTED, effects_on

PRIVATE = MapFlag.PRIVATE | MapFlag.ANONYMOUS
REFUSED = "mprotect answers EINVAL, mmap ignores it."
HERE = effects_on(os.uname().machine)


@pytest.fixture
def page() -> Iterator[int]:
    """The address of a page with nothing accessible on either side."""
    outer = calls.mmap(0, 3 * PAGE_SIZE, Prot.NONE, PRIVATE)
    calls.mprotect(outer + PAGE_SIZE, PAGE_SIZE, Prot.READ | Prot.WRITE)
    yield outer + PAGE_SIZE
    calls.munmap(outer, 3 * PAGE_SIZE)


def prot_of(address: int) -> Prot:
    mapping = AddressSpace().find(address)
    assert mapping is not None
    return mapping.prot


def answer(page: int, prot: int) -> int:
    try:
        calls.mprotect(page, PAGE_SIZE, prot)
    except ProtectionError as error:
        return error.errno or 0
    return 0


@pytest.mark.parametrize("name", [name for name, effect in HERE.items() if effect == REFUSED])
def test_what_is_said_to_be_refused_is_refused_by_mprotect_and_ignored_by_mmap(page: int, name: str) -> None:
    assert answer(page, Prot.READ | Prot[name]) == errno.EINVAL
    assert prot_of(page) == Prot("rw-")
    calls.mmap(page, PAGE_SIZE, Prot.READ | Prot[name], PRIVATE | MapFlag.FIXED)
    assert prot_of(page) == Prot.READ


@pytest.mark.parametrize("bit", [1 << n for n in range(3, 64)])
def test_exactly_the_accepted_flags_are_not_refused_as_unknown(page: int, bit: int) -> None:
    refused = answer(page, Prot.READ | bit) == errno.EINVAL
    if bit in (Prot.GROWSDOWN, Prot.GROWSUP):
        assert refused
        assert bit & ACCEPTED
    elif os.uname().machine == "x86_64":
        assert refused == (not bit & ACCEPTED)
    else:
        # A processor may lack what its architecture has.
        assert refused or bit & ACCEPTED


def test_sem_is_accepted_and_ignored(page: int) -> None:
    assert "ignore" in Prot.SEM.effect
    assert answer(page, Prot.READ | Prot.SEM) == 0
    assert prot_of(page) == Prot.READ
    calls.mmap(page, PAGE_SIZE, Prot.READ | Prot.SEM, PRIVATE | MapFlag.FIXED)
    assert prot_of(page) == Prot.READ


def test_growsup_and_unknown_bits_are_refused_by_mprotect_and_ignored_by_mmap(page: int) -> None:
    for bit in (Prot.GROWSUP, 1 << 40):
        assert "EINVAL" in Prot(bit).effect
        assert answer(page, Prot.READ | bit) == errno.EINVAL
        calls.mmap(page, PAGE_SIZE, Prot.READ | bit, PRIVATE | MapFlag.FIXED)
        assert prot_of(page) == Prot.READ


def test_growsdown_begins_where_the_growing_mapping_begins(page: int) -> None:
    assert answer(page, Prot.READ | Prot.GROWSDOWN) == errno.EINVAL
    growing = calls.mmap(0, 4 * PAGE_SIZE, Prot("rw-"), PRIVATE | MapFlag.GROWSDOWN)
    try:
        calls.mprotect(growing + 2 * PAGE_SIZE, PAGE_SIZE, Prot.READ | Prot.GROWSDOWN)
        assert [str(prot_of(growing + n * PAGE_SIZE)) for n in range(4)] == ["r--", "r--", "r--", "rw-"]
    finally:
        calls.munmap(growing, 4 * PAGE_SIZE)


def test_both_growing_flags_are_refused(page: int) -> None:
    assert answer(page, Prot.READ | Prot.GROWSDOWN | Prot.GROWSUP) == errno.EINVAL


def test_writing_includes_reading_where_it_is_said_to(page: int) -> None:
    ctypes.memset(page, 7, 1)
    assert answer(page, Prot.WRITE) == 0
    assert "loads too" in Prot.WRITE.effect
    assert ctypes.string_at(page, 1) == b"\7"


def test_execute_only_memory_is_readable_on_x86_without_protection_keys(page: int) -> None:
    if os.uname().machine != "x86_64" or features.available("protection_keys"):
        assert "loads fault" in Prot.EXEC.effect
        return
    ctypes.memset(page, 7, 1)
    assert answer(page, Prot.EXEC) == 0
    assert ctypes.string_at(page, 1) == b"\7"


@pytest.mark.parametrize(("name", "bit"), [("BTI", 17), ("MTE", 18)])
def test_flags_of_arm_follow_the_processor(page: int, name: str, bit: int) -> None:
    if os.uname().machine != "aarch64":
        assert answer(page, Prot.READ | Prot[name]) == errno.EINVAL
        return
    capabilities = ctypes.CDLL(None).getauxval(26)
    assert answer(page, Prot.READ | Prot[name]) == (0 if capabilities >> bit & 1 else errno.EINVAL)
