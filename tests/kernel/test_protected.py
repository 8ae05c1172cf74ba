"""Scopes: every page has its previous protection afterwards, whatever happened inside."""

import gc
import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import (
    PAGES,
    SIZE,
    address_of,
    private_pages,
    protections,
    protections_at,
    shared_pages,
    unmap_behind_its_back,
)

from memprot import PAGE_SIZE, AddressSpace, ProtectionError, Reason, Region, calls, protect, protected
from memprot.flags import MapFlag
from memprot.prot import as_prot

MIXED = ["rw-", "r--", "r--", "---", "r-x", "rw-"]


@pytest.fixture(params=[private_pages, shared_pages], ids=["private", "shared"])
def memory(request: pytest.FixtureRequest) -> Iterator[mmap.mmap]:
    pages: mmap.mmap = request.param()
    yield pages
    calls.mprotect(address_of(pages), SIZE, 3)
    pages.close()


@pytest.fixture
def mixed(memory: mmap.mmap) -> mmap.mmap:
    start = address_of(memory)
    for page, prot in enumerate(("rw-", "r--", "r--", "---", "r-x", "rw-")):
        calls.mprotect(start + page * PAGE_SIZE, PAGE_SIZE, int(as_prot(prot)))
    assert protections(memory) == MIXED
    return memory


@pytest.mark.parametrize("wanted", ["---", "r--", "rw-", "r-x", "--x", "rwx", "-w-"])
def test_the_pages_have_the_protection_inside_and_their_own_afterwards(mixed: mmap.mmap, wanted: str) -> None:
    with protected(mixed, wanted) as same:
        assert same is mixed
        assert protections(mixed) == [wanted] * PAGES
    assert protections(mixed) == MIXED


def test_scopes_nest(mixed: mmap.mmap) -> None:
    part = memoryview(mixed)[PAGE_SIZE : 4 * PAGE_SIZE]
    with protected(mixed, "r--"):
        with protected(part, "rw-"):
            assert protections(mixed) == ["r--", "rw-", "rw-", "rw-", "r--", "r--"]
            with protected(mixed, "---"):
                assert protections(mixed) == ["---"] * PAGES
            assert protections(mixed) == ["r--", "rw-", "rw-", "rw-", "r--", "r--"]
        assert protections(mixed) == ["r--"] * PAGES
    part.release()
    assert protections(mixed) == MIXED


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_through_the_scope(mixed: mmap.mmap, kind: type[BaseException]) -> None:
    with pytest.raises(kind), protected(mixed, "---"):
        raise kind
    assert protections(mixed) == MIXED


def test_what_others_changed_inside_is_undone_as_well(mixed: mmap.mmap) -> None:
    with protected(mixed, "r--"):
        calls.mprotect(address_of(mixed) + PAGE_SIZE, 2 * PAGE_SIZE, 3)
    assert protections(mixed) == MIXED


def test_an_abandoned_generator_gives_its_pages_back(memory: mmap.mmap) -> None:
    def reader() -> Iterator[None]:
        with protected(memory, "r--"):
            yield

    generator = reader()
    next(generator)
    assert protections(memory) == ["r--"] * PAGES
    del generator
    gc.collect()
    assert protections(memory) == ["rw-"] * PAGES


def test_a_scope_entered_by_hand_and_dropped_gives_its_pages_back(memory: mmap.mmap) -> None:
    scope = protected(memory, "r--")
    scope.__enter__()
    assert protections(memory) == ["r--"] * PAGES
    del scope
    assert protections(memory) == ["rw-"] * PAGES


def test_a_scope_is_entered_once(memory: mmap.mmap) -> None:
    scope = protected(memory, "r--")
    with scope, pytest.raises(RuntimeError, match="another"):
        scope.__enter__()
    with pytest.raises(RuntimeError, match="another"), scope:
        pass
    with pytest.raises(RuntimeError, match="not open"):
        scope.__exit__(None, None, None)
    assert protections(memory) == ["rw-"] * PAGES


def test_closing_and_resizing_inside_are_buffer_errors(memory: mmap.mmap) -> None:
    with protected(memory, "r--"):
        with pytest.raises(BufferError):
            memory.close()
        with pytest.raises(BufferError):
            memory.resize(PAGE_SIZE)
    array = bytearray(3 * SIZE)
    with protected(array, "r--", neighbours=True), pytest.raises(BufferError):
        array.extend(b"more")
    array.extend(b"more")
    with Region(SIZE) as region, protected(region, "r--"), pytest.raises(BufferError):
        region.close()


def test_scopes_that_end_in_another_order_leave_what_there_was(mixed: mmap.mmap) -> None:
    """As those of several threads do: whoever is last must not bring the first one's protection back."""
    first = protected(mixed, "r--")
    second = protected(memoryview(mixed)[PAGE_SIZE : 4 * PAGE_SIZE], "---")
    third = protected(memoryview(mixed)[2 * PAGE_SIZE :], "r-x")
    for scope in (first, second, third):
        scope.__enter__()
    assert protections(mixed) == ["r--", "---", "r-x", "r-x", "r-x", "r-x"]
    first.__exit__()
    assert protections(mixed) == ["rw-", "---", "r-x", "r-x", "r-x", "r-x"]
    third.__exit__()
    assert protections(mixed) == ["rw-", "---", "---", "---", "r-x", "rw-"]
    second.__exit__()
    assert protections(mixed) == MIXED


def test_threads_that_protect_the_same_memory_leave_it_as_it_was(memory: mmap.mmap) -> None:
    def reader(number: int) -> None:
        view = memoryview(memory)[number % 3 * PAGE_SIZE : (3 + number % 4) * PAGE_SIZE]
        for _ in range(150):
            with protected(view, ("r--", "---", "r-x", "rw-")[number % 4]):
                pass
        view.release()

    threads = [threading.Thread(target=reader, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert protections(memory) == ["rw-"] * PAGES


# ---- memory that is not there any more


def reserved(memory: mmap.mmap) -> int:
    """The address of memory, to do to it what a C library may do."""
    return address_of(memory)


def fill_hole(start: int, pages: int) -> None:
    flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED_NOREPLACE
    calls.mmap(start, pages * PAGE_SIZE, 3, flags)


def test_unmapped_memory_is_named_and_the_rest_put_back(mixed: mmap.mmap) -> None:
    start = reserved(mixed)
    with pytest.raises(ProtectionError, match="unmapped") as caught, protected(mixed, "r--"):
        unmap_behind_its_back(start + 2 * PAGE_SIZE, 2)
    error = caught.value
    assert (error.reason, error.start, error.stop) == (Reason.HOLE, start + 2 * PAGE_SIZE, start + 4 * PAGE_SIZE)
    assert protections_at(start, PAGES) == ["rw-", "r--", "", "", "r-x", "rw-"]
    fill_hole(start + 2 * PAGE_SIZE, 2)


def test_another_mapping_in_its_place_is_left_alone(mixed: mmap.mmap, tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"other" * PAGE_SIZE)
    start = reserved(mixed)
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(ProtectionError, match="something else") as caught, protected(mixed, "r--"):
        calls.mmap(start + 4 * PAGE_SIZE, PAGE_SIZE, 1, MapFlag.PRIVATE | MapFlag.FIXED, fd, 0)
    os.close(fd)
    error = caught.value
    assert (error.reason, error.start, error.stop) == (
        Reason.CHANGED_MEANWHILE,
        start + 4 * PAGE_SIZE,
        start + 5 * PAGE_SIZE,
    )
    assert error.mapping is not None
    assert error.mapping.path == str(path)
    assert protections_at(start, PAGES) == ["rw-", "r--", "r--", "---", "r--", "rw-"]


def test_the_same_file_at_another_offset_is_another_mapping(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), SIZE)
        start = address_of(memory)
        with pytest.raises(ProtectionError) as caught, protected(memory, "r--"):
            flags = MapFlag.SHARED | MapFlag.FIXED
            calls.mmap(start, PAGE_SIZE, 1, flags, file.fileno(), PAGE_SIZE)
        assert caught.value.reason is Reason.CHANGED_MEANWHILE
        assert protections(memory) == ["r--", *["rw-"] * (PAGES - 1)]
        memory.close()


def test_the_blocks_own_exception_stays_the_context(memory: mmap.mmap) -> None:
    start = reserved(memory)
    with pytest.raises(ProtectionError) as caught, protected(memory, "r--"):
        unmap_behind_its_back(start, 1)
        raise KeyError("the block's own")
    assert isinstance(caught.value.__context__, KeyError)
    fill_hole(start, 1)


def test_a_scope_that_cannot_begin_has_put_everything_back(mixed: mmap.mmap) -> None:
    start = reserved(mixed)
    unmap_behind_its_back(start + 4 * PAGE_SIZE, 1)
    before = protections(mixed)
    with pytest.raises(ProtectionError) as caught, protected(mixed, "r--"):
        pytest.fail("the scope began")
    assert caught.value.applied == ()
    assert protections(mixed) == before
    fill_hole(start + 4 * PAGE_SIZE, 1)


def test_what_the_kernel_refuses_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    with open(path, "rb") as file:
        memory = mmap.mmap(file.fileno(), SIZE, prot=mmap.PROT_READ)
        with pytest.raises(PermissionError), protected(memory, "rw-"):
            pytest.fail("the scope began")
        assert protections(memory) == ["r--"] * PAGES
        with pytest.raises(ProtectionError) as caught, protected(memory, 1 << 32 | 1):
            pytest.fail("the scope began")
        assert caught.value.errno == 22
        assert protections(memory) == ["r--"] * PAGES
        memory.close()


# ---- and nothing else


def test_a_scope_leaves_no_descriptor_mapping_or_handler(memory: mmap.mmap) -> None:
    def state() -> tuple[list[str], int, str]:
        signals = Path("/proc/self/status").read_text().split("SigCgt:")[1].split()[0]
        return sorted(os.listdir("/proc/self/fd")), len(list(AddressSpace())), signals

    before = state()
    with protected(memory, "r--"):
        pass
    assert state() == before


def test_a_forked_child_has_scopes_of_its_own(memory: mmap.mmap) -> None:
    with protected(memory, "r--"):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with protected(memory, "---"):
                    inside = protections(memory)
                status = not (inside == ["---"] * PAGES and protections(memory) == ["r--"] * PAGES)
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert protections(memory) == ["r--"] * PAGES
    assert protections(memory) == ["rw-"] * PAGES


def test_a_child_forked_inside_a_scope_can_leave_it(memory: mmap.mmap) -> None:
    scope = protected(memory, "r--")
    scope.__enter__()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            scope.__exit__()
            status = protections(memory) != ["rw-"] * PAGES
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert protections(memory) == ["r--"] * PAGES
    scope.__exit__()
    assert protections(memory) == ["rw-"] * PAGES


def test_protect_inside_a_scope_ends_with_it(memory: mmap.mmap) -> None:
    with protected(memory, "r--"):
        protect(memory, "---")
        assert protections(memory) == ["---"] * PAGES
    assert protections(memory) == ["rw-"] * PAGES
