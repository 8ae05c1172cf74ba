"""Memory that stays protected is held: nobody else gets it while it permits less than its next user counts on."""

from __future__ import annotations

import gc
import mmap
import os
import resource
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from pages import PAGES, SIZE, address_of, private_pages, protections, shared_pages, unmap_behind_its_back

from memprot import PAGE_SIZE, AddressSpace, ProtectionError, Reason, Region, calls, protect, protected
from memprot.flags import MapFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import CompletedProcess

    RunChild = Callable[..., CompletedProcess[str]]


class Memory(mmap.mmap):
    """An mmap that weak references can watch."""


def watched() -> Memory:
    return Memory(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def test_memory_is_held_while_it_permits_less_and_no_longer() -> None:
    memory = watched()
    alive = weakref.ref(memory)
    protect(memory, "r--")
    with pytest.raises(BufferError):
        memory.close()
    protect(memory, "---")
    protect(memory, "r--")
    with pytest.raises(BufferError):
        memory.close()
    protect(memory, "rw-")
    memory.close()
    del memory
    assert alive() is None


def test_memory_that_was_dropped_while_protected_is_not_given_to_others() -> None:
    memory = watched()
    alive, start = weakref.ref(memory), address_of(memory)
    protect(memory, "r--")
    del memory
    gc.collect()
    assert alive() is not None
    mapping = AddressSpace().find(start)
    assert mapping is not None
    assert str(mapping.prot) == "r--"
    protect(alive(), "rw-")
    assert alive() is None


def test_an_array_dropped_while_protected_is_not_freed_into_malloc() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(40 * PAGE_SIZE, "u1")
    start = address_of(array)
    pages = array[-start % PAGE_SIZE :][: 38 * PAGE_SIZE]
    protect(pages, "r--")
    alive = weakref.ref(array)
    del array, pages
    others = [numpy.ones(40 * PAGE_SIZE, "u1") for _ in range(5)]
    assert all(address_of(other) != start for other in others)
    protect(alive()[-start % PAGE_SIZE :][: 38 * PAGE_SIZE], "rw-")  # type: ignore[index]
    assert alive() is None


def test_giving_more_holds_nothing() -> None:
    memory = watched()
    calls.mprotect(address_of(memory), SIZE, 1)
    protect(memory, "rw-")
    protect(memory, "rwx")
    memory.close()


def test_parts_are_given_back_one_by_one() -> None:
    memory = watched()
    low, high = memoryview(memory)[: 3 * PAGE_SIZE], memoryview(memory)[2 * PAGE_SIZE :]
    protect(low, "r--")
    protect(high, "---")
    protect(low, "rw-")
    assert protections(memory) == ["rw-", "rw-", "rw-", "---", "---", "---"]
    low.release()
    with pytest.raises(BufferError):
        high.release()
    part = memoryview(memory)[3 * PAGE_SIZE :]
    protect(part, "rw-")
    part.release()
    high.release()
    memory.close()


def test_toggling_does_not_pile_anything_up() -> None:
    memory = watched()
    descriptors = os.listdir("/proc/self/fd")
    for _ in range(500):
        for prot in ("r--", "---", "r-x", "rw-"):
            protect(memory, prot)
    assert os.listdir("/proc/self/fd") == descriptors
    memory.close()


def test_a_scope_inside_does_not_let_go_too_early() -> None:
    memory = watched()
    protect(memory, "r--")
    with protected(memory, "rw-"):
        with protected(memory, "---"):
            pass
        protect(memory, "rw-")
    assert protections(memory) == ["r--"] * PAGES
    with pytest.raises(BufferError):
        memory.close()
    protect(memory, "rw-")
    memory.close()


def test_a_protect_inside_a_scope_is_let_go_with_it() -> None:
    memory = watched()
    with protected(memory, "r--"):
        protect(memory, "---")
    memory.close()


def test_a_region_is_not_held() -> None:
    region = Region(SIZE)
    protect(region, "---")
    assert str(region.prot) == "---"
    region.close()


def test_memory_that_was_unmapped_is_let_go() -> None:
    memory = watched()
    start = address_of(memory)
    protect(memory, "r--")
    unmap_behind_its_back(start, PAGES)
    calls.mmap(start, SIZE, 3, MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED_NOREPLACE)
    protect(memory, "rw-")
    memory.close()


# ---- what fails in the middle


@pytest.fixture
def holed() -> Any:
    """Memory with a hole in its fourth page, and mixed protections before it."""
    memory = shared_pages()
    start = address_of(memory)
    calls.mprotect(start + PAGE_SIZE, PAGE_SIZE, 1)
    unmap_behind_its_back(start + 3 * PAGE_SIZE, 1)
    yield memory
    calls.mmap(start + 3 * PAGE_SIZE, PAGE_SIZE, 3, MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED_NOREPLACE)
    protect(memory, "rw-")
    memory.close()


def test_without_atomic_what_was_applied_stays_and_is_told(holed: mmap.mmap) -> None:
    start = address_of(holed)
    with pytest.raises(ProtectionError) as caught:
        protect(holed, "---")
    error = caught.value
    assert error.errno == 12
    assert error.reason is Reason.HOLE
    assert error.start == start + 3 * PAGE_SIZE
    assert error.applied == ((start, start + 3 * PAGE_SIZE),)
    assert protections(holed) == ["---", "---", "---", "", "rw-", "rw-"]


def test_with_atomic_it_is_put_back(holed: mmap.mmap) -> None:
    with pytest.raises(ProtectionError) as caught:
        protect(holed, "---", atomic=True)
    assert caught.value.reason is Reason.HOLE
    assert caught.value.applied == ()
    assert protections(holed) == ["rw-", "r--", "rw-", "", "rw-", "rw-"]


def test_with_atomic_a_refusal_by_one_of_several_mappings_is_put_back(tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    memory = private_pages()
    start = address_of(memory)
    with open(path, "rb") as file:
        calls.mmap(start + 2 * PAGE_SIZE, PAGE_SIZE, 1, MapFlag.SHARED | MapFlag.FIXED, file.fileno(), 0)
    calls.mprotect(start, PAGE_SIZE, 0)
    for atomic, expected in ((True, ["---", "rw-"]), (False, ["rw-", "rw-"])):
        with pytest.raises(PermissionError):
            protect(memory, "rw-", atomic=atomic)
        assert protections(memory) == [*expected, "r--", "rw-", "rw-", "rw-"]
    memory.close()


@pytest.fixture
def no_descriptor_left() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        yield
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_without_a_descriptor_left_memory_of_others_stays_as_it_is(run_child: RunChild) -> None:
    """In a process that uses nothing else of memprot: otherwise the file with the answer may be open."""
    done = run_child(
        """
import mmap, os, resource
from memprot import *
memory = mmap.mmap(-1, 8192)
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
held = []
try:
    while True:
        held.append(os.dup(0))
except OSError:
    pass
for do in (lambda: protect(memory, "r--"), lambda: protected(memory, "r--").__enter__()):
    try:
        do()
    except ProtectionError as error:
        print(error.errno, error.reason.value, "nothing was changed" in str(error))
    memory[0] = memory[5000] = 1
memory.close()
"""
    )
    assert (done.stdout, done.stderr) == ("24 descriptor_limit True\n" * 2, "")


@pytest.mark.usefixtures("no_descriptor_left")
def test_without_a_descriptor_left_a_region_is_protected_all_the_same() -> None:
    with Region(SIZE) as region:
        region.protect("r--", PAGE_SIZE, 2 * PAGE_SIZE)
        with region.protected("---"):
            assert str(region.prot) == "---"
            with protected(region, "r-x"):
                assert str(region.prot) == "r-x"
        assert region.prot is None
        region.protect("rw-", PAGE_SIZE, 2 * PAGE_SIZE)
        assert str(region.prot) == "rw-"
        region[:] = b"x" * SIZE
