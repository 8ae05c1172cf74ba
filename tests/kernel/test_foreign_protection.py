"""Protections that others change by calls of their own: faults are recovered, and the pages left as they made them."""

import contextlib
import ctypes
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy
import pytest
from pages import PAGES, SIZE, address_of, private_pages, protections, protections_at, shared_pages

from memprot import PAGE_SIZE, FaultError, Prot, Region, calls, catch_faults, features, protect, protected

PATTERN = bytes(range(1, 252)) * (SIZE // 251 + 1)
PATTERN = PATTERN[:SIZE]
Change = Callable[[int, int, str], None]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

needs_question = pytest.mark.skipif(
    not features.available("procmap_query"), reason="this kernel cannot be asked for one mapping in a signal handler"
)


def by_memprot(start: int, length: int, prot: str) -> None:
    calls.mprotect(start, length, Prot(prot))


def by_ctypes(start: int, length: int, prot: str) -> None:
    assert _libc.mprotect(start, length, int(Prot(prot))) == 0


@pytest.fixture(params=[by_memprot, by_ctypes], ids=["calls", "ctypes"])
def change(request: pytest.FixtureRequest) -> Change:
    function: Change = request.param
    return function


@pytest.fixture(params=["Region", "shared Region", "protected mmap", "protected shared mmap", "protected array"])
def memory(request: pytest.FixtureRequest) -> Iterator[tuple[Any, int]]:
    """A buffer whose pages memprot believes to be rw-, and their address."""
    kept: list[Any] = []
    if "Region" in request.param:
        region = Region(SIZE, shared="shared" in request.param)
        region[:] = PATTERN
        yield region, region.address
        region.close()
        return
    made: Any = shared_pages() if "shared" in request.param else private_pages()
    made[:] = PATTERN
    kept.append(made)
    buffer: Any = numpy.frombuffer(made, "u1") if "array" in request.param else made
    with protected(buffer, "---"), protected(buffer, "rw-"):
        yield buffer, address_of(made)


def bytes_of(start: int) -> bytes:
    """All of them, whatever the protection is."""
    before = protections_at(start, PAGES)
    with open("/proc/self/mem", "rb", buffering=0) as file:
        content = os.pread(file.fileno(), SIZE, start)
    assert protections_at(start, PAGES) == before
    return content


def blocked(act: Callable[[], object]) -> FaultError:
    with pytest.raises(FaultError) as caught, catch_faults():
        act()
    return caught.value


@contextlib.contextmanager
def writing(misbehave: ModuleType, address: int) -> Iterator[list[FaultError]]:
    """Another thread writes to a page all the time, which has been opened for it; afterwards what it was told."""
    flag = ctypes.c_ubyte(0)
    faults: list[FaultError] = []

    def work() -> None:
        try:
            misbehave.write_in_loop_until(address, 65, ctypes.addressof(flag))
        except FaultError as fault:
            faults.append(fault)

    with catch_faults():
        thread = threading.Thread(target=work)
        thread.start()
        try:
            while protections_at(address, 1) != ["rw-"]:
                pass
            yield faults
        finally:
            flag.value = 1
            thread.join()


# ---- permissions taken away


@needs_question
def test_a_write_that_only_another_call_forbids_is_recovered(memory: tuple[Any, int], change: Change) -> None:
    _, start = memory
    change(start + PAGE_SIZE, PAGE_SIZE, "r--")
    fault = blocked(lambda: ctypes.memset(start + PAGE_SIZE, 65, 2 * PAGE_SIZE))
    assert (fault.address, fault.access, fault.cause) == (start + PAGE_SIZE, "write", "protection")
    assert protections_at(start, 3) == ["rw-", "r--", "rw-"]
    expected = PATTERN[: 2 * PAGE_SIZE] + b"A" * PAGE_SIZE + PATTERN[3 * PAGE_SIZE :]
    assert bytes_of(start) == expected


@needs_question
def test_a_read_that_only_another_call_forbids_is_recovered(memory: tuple[Any, int], change: Change) -> None:
    _, start = memory
    change(start, SIZE, "---")
    seen = (ctypes.c_char * 8)()
    fault = blocked(lambda: ctypes.memmove(seen, start + 2 * PAGE_SIZE, 8))
    assert (fault.address, fault.access) == (start + 2 * PAGE_SIZE, "read")
    assert bytes(seen) == bytes(8)
    assert protections_at(start, PAGES) == ["---"] * PAGES
    assert bytes_of(start) == PATTERN


@needs_question
def test_one_long_write_over_many_protections_gives_each_page_its_own_back(
    memory: tuple[Any, int], change: Change
) -> None:
    _, start = memory
    made = ["r--", "---", "r-x", "r--", "r--", "---"]
    for page, prot in enumerate(made):
        change(start + page * PAGE_SIZE, PAGE_SIZE, prot)
    blocked(lambda: ctypes.memset(start, 65, SIZE))
    assert protections_at(start, PAGES) == made
    assert bytes_of(start) == PATTERN


@needs_question
def test_the_fault_of_a_second_thread_is_recovered_too(memory: tuple[Any, int], change: Change) -> None:
    _, start = memory
    found: list[FaultError] = []

    def work() -> None:
        try:
            ctypes.memset(start, 65, SIZE)
        except FaultError as fault:
            found.append(fault)

    with catch_faults():
        change(start, SIZE, "r--")
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [fault.address for fault in found] == [start]
    assert protections_at(start, PAGES) == ["r--"] * PAGES
    assert bytes_of(start) == PATTERN


# ---- what memprot had set is no longer so


def test_pages_opened_by_another_call_stay_open(change: Change) -> None:
    region = Region(SIZE)
    region[:] = PATTERN
    region.protect("r--")
    change(region.address + PAGE_SIZE, PAGE_SIZE, "rw-")
    blocked(lambda: ctypes.memset(region.address, 65, SIZE))
    assert protections(region) == ["r--", "rw-", *["r--"] * (PAGES - 2)]
    expected = PATTERN[:PAGE_SIZE] + b"A" * PAGE_SIZE + PATTERN[2 * PAGE_SIZE :]
    assert bytes_of(region.address) == expected


@needs_question
def test_a_protection_that_another_call_made_stricter_is_not_taken_for_the_one_remembered(change: Change) -> None:
    region = Region(SIZE)
    region[:] = PATTERN
    region.protect("r--")
    change(region.address, SIZE, "---")
    blocked(lambda: ctypes.memset(region.address + 7, 65, 1))
    assert protections(region) == ["---"] * PAGES
    assert bytes_of(region.address) == PATTERN


@needs_question
def test_a_kept_protection_changed_by_another_call_is_recovered(change: Change) -> None:
    memory = private_pages()
    memory[:] = PATTERN
    start = address_of(memory)
    protect(memory, "r--")
    change(start + PAGE_SIZE, 2 * PAGE_SIZE, "---")
    seen = (ctypes.c_char * SIZE)()
    fault = blocked(lambda: ctypes.memmove(seen, start, SIZE))
    assert (fault.offset, fault.access) == (PAGE_SIZE, "read")
    assert bytes(seen) == PATTERN[:PAGE_SIZE] + bytes(2 * PAGE_SIZE) + PATTERN[3 * PAGE_SIZE :]
    assert protections(memory) == ["r--", "---", "---", "r--", "r--", "r--"]
    protect(memory, "rw-")
    assert memory[:] == PATTERN
    memory.close()


@needs_question
def test_a_region_says_what_the_kernel_says(change: Change) -> None:
    region = Region(2 * PAGE_SIZE)
    change(region.address, PAGE_SIZE, "r--")
    assert region.prot is None
    assert protections(region) == ["r--", "rw-"]
    assert {str(mapping.prot) for mapping in region.mappings} == {"r--", "rw-"}
    change(region.address + PAGE_SIZE, PAGE_SIZE, "r--")
    assert str(region.prot) == "r--"
    change(region.address, 2 * PAGE_SIZE, "rw-")
    assert str(region.prot) == "rw-"


def test_a_region_with_an_open_page_says_what_it_will_have_again(misbehave: ModuleType) -> None:
    region = Region(2 * PAGE_SIZE)
    region.protect("r--")
    with writing(misbehave, region.address) as faults:
        assert protections(region)[0] == "rw-"
        assert str(region.prot) == "r--"
    assert len(faults) == 1
    assert protections(region) == ["r--", "r--"]


# ---- nothing spins


@needs_question
@pytest.mark.parametrize("prot", ["r--", "---", "r-x"])
@pytest.mark.parametrize("flags", [mmap.MAP_PRIVATE, mmap.MAP_SHARED], ids=["private", "shared"])
def test_a_page_that_is_open_may_be_changed_once_more(misbehave: ModuleType, prot: str, flags: int) -> None:
    memory = mmap.mmap(-1, SIZE, flags=flags)
    for buffer in (memory, Region(SIZE, shared=flags == mmap.MAP_SHARED)):
        start = address_of(buffer)
        ctypes.memmove(start, PATTERN, SIZE)
        protect(buffer, "r--")
        with writing(misbehave, start) as faults:
            by_memprot(start, PAGE_SIZE, prot)
            while not protections_at(start, 1)[0].startswith("rw"):
                pass
        assert len(faults[0].others) == 1
        assert protections_at(start, PAGES) == [prot, *["r--"] * (PAGES - 1)]
        assert bytes_of(start) == PATTERN
        protect(buffer, "rw-")


@needs_question
@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_changes_and_faults_in_a_loop_come_to_an_end(misbehave: ModuleType, shared: bool, write: bool) -> None:
    memory = shared_pages() if shared else private_pages()
    for buffer in (Region(SIZE, shared=shared), memory):
        start = address_of(buffer)
        ctypes.memmove(start, PATTERN, SIZE)
        stop = threading.Event()
        thread = threading.Thread(target=toggle, args=(start, stop))
        with protected(buffer, "r--"):
            thread.start()
            try:
                for _ in range(500):
                    meet(misbehave, start + 2 * PAGE_SIZE, write)
            finally:
                stop.set()
                thread.join()
            assert protections_at(start, PAGES)[3:] == ["r--"] * (PAGES - 3)
        assert bytes_of(start) == PATTERN


def toggle(start: int, stop: threading.Event) -> None:
    while not stop.is_set():
        for prot in (0, 1, 5, 0):  # ---, r--, r-x
            _libc.mprotect(start, 3 * PAGE_SIZE, prot)


def meet(misbehave: ModuleType, address: int, write: bool) -> None:
    try:
        with catch_faults():
            if write:
                misbehave.write(address, 1, gil=False)
            else:
                misbehave.read(address, gil=False)
    except FaultError as fault:
        assert fault.access == ("write" if write else "read")


def test_memory_that_another_call_unmapped_is_nobodys_to_recover(run_child: Callable[..., Any]) -> None:
    child = run_child(
        """
import ctypes
from memprot import PAGE_SIZE, Region, calls, catch_faults
region = Region(2 * PAGE_SIZE)
calls.munmap(region.address + PAGE_SIZE, PAGE_SIZE)
with catch_faults():
    ctypes.memset(region.address, 65, PAGE_SIZE + 1)
"""
    )
    assert child.returncode == -11
    assert "memprot: fatal write" in child.stderr
