"""These tests run where the processor has protection keys: ``make test-vm`` runs them in a machine that does."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from memprot import PAGE_SIZE, ProtectionError, Region, calls, features
from memprot.flags import KeyRights

if not features.available("protection_keys"):
    collect_ignore_glob = ["test_*.py"]

# 16 keys, of which key 0 is that of all memory that was given no other.
KEYS = 15
PATTERN = bytes(range(1, 252)) * (4 * PAGE_SIZE // 251 + 1)

KeyOf = Callable[[int], int]
Tag = Callable[[Region, int], None]
RunChild = Callable[[str], subprocess.CompletedProcess[str]]


def free_all_keys() -> None:
    for number in range(1, KEYS + 1):
        with suppress(ProtectionError):  # it is free already
            calls.pkey_free(number)
        calls.pkey_set(number, KeyRights.DISABLE_ACCESS)


@pytest.fixture(autouse=True)
def no_key_in_use() -> Iterator[None]:
    """Each test finds every key free and no right to any, as a program does at its start, and leaves it so."""
    free_all_keys()
    yield
    free_all_keys()


@pytest.fixture
def key() -> int:
    """A key to which this thread has all rights."""
    return calls.pkey_alloc()


@pytest.fixture
def key_of() -> KeyOf:
    """The key of the page at an address, as the kernel tells it."""

    def look_up(address: int) -> int:
        inside = False
        with open("/proc/self/smaps") as smaps:
            for line in smaps:
                first, *rest = line.split()
                if not first.endswith(":"):
                    start, stop = (int(end, 16) for end in first.split("-"))
                    inside = start <= address < stop
                elif inside and first == "ProtectionKey:":
                    return int(rest[0])
        raise AssertionError(f"nothing is mapped at {address:#x}")

    return look_up


@pytest.fixture
def tag() -> Tag:
    """Give all pages of a region a key, and leave their protection as it is."""

    def give(region: Region, number: int) -> None:
        assert region.prot is not None
        start, stop = region.extent
        calls.pkey_mprotect(start, stop - start, region.prot, number)

    return give


@pytest.fixture(params=[False, True], ids=["private", "shared"])
def region(request: pytest.FixtureRequest) -> Iterator[Region]:
    """Four pages of known content."""
    with Region(4 * PAGE_SIZE, shared=request.param) as made:
        made[:] = PATTERN[: made.size]
        yield made


@pytest.fixture
def run_child() -> RunChild:
    """Run Python code in a process of its own."""

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)

    return run
