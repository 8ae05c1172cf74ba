"""Protecting the pages of a Region: what stays, what comes back, what faults."""

import functools
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from memprot import PAGE_SIZE, FaultError, Prot, ProtectionError, Region, calls, catch_faults
from memprot.flags import Advice
from memprot.prot import as_prot

Action = Callable[[], object]

PAGES = 6
SIZE = PAGES * PAGE_SIZE


def protections(region: Region) -> list[str]:
    """What the kernel says of each page."""
    start, stop = region.extent
    pages = []
    for mapping in region.mappings:  # the first and the last may have merged with a neighbour
        length = min(mapping.stop, stop) - max(mapping.start, start)
        pages += [str(mapping.prot)] * (length // PAGE_SIZE)
    return pages


ALL = ["---", "r--", "rw-", "r-x", "--x", "rwx", "-w-"]


@pytest.mark.parametrize("wanted", ALL)
def test_the_kernel_agrees_with_the_protection_it_names(shared: bool, wanted: str) -> None:
    with Region(SIZE, wanted, shared=shared) as region:
        assert str(region.prot) == wanted
        assert protections(region) == [wanted] * PAGES
        region.protect("rw-")
        region.protect(as_prot(wanted))
        assert protections(region) == [wanted] * PAGES
        region.protect(int(as_prot("rw-")))
        assert protections(region) == ["rw-"] * PAGES


def test_a_range_of_pages_is_protected(shared: bool) -> None:
    with Region(SIZE, shared=shared) as region:
        region.protect("r--", PAGE_SIZE, 3 * PAGE_SIZE)
        assert protections(region) == ["rw-", "r--", "r--", "rw-", "rw-", "rw-"]
        assert region.prot is None
        assert "mixed" in repr(region)
        region.protect("---", stop=2 * PAGE_SIZE)
        region.protect("r--", start=5 * PAGE_SIZE)
        assert protections(region) == ["---", "---", "r--", "rw-", "rw-", "r--"]
        region.protect("rw-", PAGE_SIZE, PAGE_SIZE)
        assert protections(region) == ["---", "---", "r--", "rw-", "rw-", "r--"]


def test_the_end_of_a_region_need_not_be_the_end_of_a_page(shared: bool) -> None:
    size = 2 * PAGE_SIZE + 100
    with Region(size, shared=shared) as region:
        region.protect("r--", PAGE_SIZE, size)
        assert protections(region) == ["rw-", "r--", "r--"]
        region.protect("rw-", 2 * PAGE_SIZE)
        assert protections(region) == ["rw-", "r--", "rw-"]


@pytest.mark.parametrize(
    ("start", "stop"),
    [(1, None), (0, 1), (PAGE_SIZE + 1, None), (0, SIZE - 1), (-PAGE_SIZE, None), (0, SIZE + PAGE_SIZE),
     (2 * PAGE_SIZE, PAGE_SIZE), (SIZE + PAGE_SIZE, None), (2**70 * PAGE_SIZE, None)],
)  # fmt: skip
def test_a_range_that_does_not_fit_the_pages_is_a_value_error(start: int, stop: int | None) -> None:
    with Region(SIZE) as region:
        with pytest.raises(ValueError, match=r"start|stop|range"):
            region.protect("r--", start, stop)
        with pytest.raises(ValueError, match=r"start|stop|range"), region.protected("r--", start, stop):
            pass
        assert protections(region) == ["rw-"] * PAGES


@pytest.mark.parametrize("start", [1.0, "0", None, 0.5])
def test_a_start_of_another_type_is_a_type_error(start: object) -> None:
    with Region(SIZE) as region, pytest.raises(TypeError):
        region.protect("r--", start)  # type: ignore[arg-type]


def test_a_bool_is_no_offset() -> None:
    with Region(SIZE) as region:
        with pytest.raises(TypeError):
            region.protect("r--", False)
        with pytest.raises(TypeError):
            region.protect("r--", 0, True)


def test_protected_gives_every_page_its_own_protection_back(shared: bool) -> None:
    with Region(SIZE, shared=shared) as region:
        region.protect("r--", PAGE_SIZE, 2 * PAGE_SIZE)
        region.protect("---", 3 * PAGE_SIZE, 4 * PAGE_SIZE)
        before = protections(region)
        with region.protected("r-x") as same:
            assert same is region
            assert protections(region) == ["r-x"] * PAGES
            with region.protected("rw-", PAGE_SIZE, 3 * PAGE_SIZE):
                assert protections(region) == ["r-x", "rw-", "rw-", "r-x", "r-x", "r-x"]
                region.protect("---")
            assert protections(region) == ["---", "r-x", "r-x", "---", "---", "---"]
        assert protections(region) == before


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt, SystemExit])
def test_protected_restores_after_an_exception(shared: bool, kind: type[BaseException]) -> None:
    with Region(SIZE, shared=shared) as region:
        with pytest.raises(kind), region.protected("---"):
            raise kind
        assert protections(region) == ["rw-"] * PAGES


def test_closing_inside_protected_is_a_buffer_error(shared: bool, prot: str) -> None:
    with Region(SIZE, shared=shared) as region:
        with region.protected(prot), pytest.raises(BufferError):
            region.close()
        assert protections(region) == ["rw-"] * PAGES


def test_accessors_raise_where_the_protection_forbids_it(blocked: Region, prot: str) -> None:
    def store_slice() -> None:
        blocked[5:9] = b"1234"

    writes: list[Action] = [
        lambda: blocked.__setitem__(7, 1),
        store_slice,
        lambda: blocked.__setitem__(slice(9, 3, -2), b"123"),
        lambda: blocked.write(3, b"x"),
        lambda: blocked.write(0, bytes(2 << 20)[: blocked.size]),
    ]
    for write, offset in zip(writes, (7, 5, 9, 3, 0), strict=True):
        with pytest.raises(FaultError) as caught:
            write()
        fault = caught.value
        assert (fault.access, fault.cause, fault.region) == ("write", "protection", blocked)
        assert fault.offset == offset
        assert fault.address == blocked.address + offset
    reads: list[Action] = [
        lambda: blocked[4],
        lambda: blocked[4:9],
        lambda: blocked[4:9:2],
        lambda: blocked.read(4),
    ]
    for read in reads:
        if prot == "r--":
            read()
            continue
        with pytest.raises(FaultError) as caught:
            read()
        assert (caught.value.access, caught.value.offset) == ("read", 4)


def test_a_long_copy_says_where_it_met_the_protection(shared: bool) -> None:
    size = 4 << 20
    with Region(size, shared=shared) as region:
        region.protect("r--", size // 2)
        with pytest.raises(FaultError) as caught:
            region[:] = b"\1" * size
        assert caught.value.offset == size // 2
        assert region[size // 2] == 0
        region.protect("---", size // 2)
        with pytest.raises(FaultError) as caught:
            region.read()
        assert (caught.value.access, caught.value.offset) == ("read", size // 2)


def test_a_buffer_asked_for_while_read_only_is_read_only(shared: bool) -> None:
    with Region(SIZE, shared=shared) as region:
        region.protect("r--")
        view = memoryview(region)
        assert view.readonly
        with pytest.raises(TypeError):
            view[0] = 1
        array = region.array("u1")
        assert not array.flags.writeable
        del array
        view.release()
        region.protect("rw-")
        region.protect("r--", 0, PAGE_SIZE)
        assert memoryview(region).readonly
        gc.collect()


def test_a_writable_view_from_before_faults(misbehave: ModuleType, shared: bool) -> None:
    with Region(SIZE, shared=shared) as region:
        view, array = memoryview(region), region.array("u1")
        region.protect("r--")
        assert not view.readonly
        with pytest.raises(FaultError), catch_faults():
            view[0] = 1
        with pytest.raises(FaultError), catch_faults():
            array[:] = 1
        region.protect("rw-")
        view[0] = 1
        array[1] = 1
        assert region[:3] == b"\1\1\0"
        view.release()
        del array


def test_a_new_protection_takes_back_what_nobody_has_claimed_yet(
    misbehave: ModuleType, shared: bool, prot: str
) -> None:
    with Region(SIZE, prot, shared=shared) as region:
        # No Python runs in between, so that nothing is raised before the protection changes.
        protect = functools.partial(region.protect_pages, 0, PAGES, int(as_prot("rw-")))
        with catch_faults() as scope:
            with pytest.raises(FaultError):
                misbehave.write_then_call(region.address + 3, 9, protect)
            assert region.prot == as_prot("rw-")
            assert region[3] == 0
            region[3] = 5
        assert region[3] == 5
        assert len(scope.faults) == 1


def test_what_is_written_where_it_is_allowed_stays(misbehave: ModuleType, shared: bool) -> None:
    with Region(SIZE, shared=shared) as region:
        region.protect("r--", PAGE_SIZE, 2 * PAGE_SIZE)
        with pytest.raises(FaultError), catch_faults():
            misbehave.stosb(region.address, 0x77, SIZE)
        expected = b"\x77" * PAGE_SIZE + bytes(PAGE_SIZE) + b"\x77" * (SIZE - 2 * PAGE_SIZE)
        assert region.read() == expected


def test_a_thread_writes_while_the_protection_changes(misbehave: ModuleType, shared: bool) -> None:
    """What it wrote while it was allowed to may stay; no fault is unexpected, and nothing dies."""
    with Region(PAGE_SIZE, shared=shared) as region, Region(1) as flag:
        faults: list[FaultError] = []

        def write() -> None:
            with catch_faults():
                try:
                    misbehave.write_in_loop_until(region.address, 3, flag.address)
                except FaultError as fault:
                    faults.append(fault)

        thread = threading.Thread(target=write)
        thread.start()
        for _ in range(3000):
            region.protect("r--")
            region.protect("---")
            region.protect("rw-")
        flag[0] = 1
        thread.join()
        assert all(fault.offset == 0 for fault in faults)
        assert region[1:] == bytes(PAGE_SIZE - 1)


def test_advice_and_discarding(shared: bool) -> None:
    with Region(SIZE, shared=shared) as region:
        region[:] = b"\1" * SIZE
        region.advise(Advice.WILLNEED)
        region.discard(PAGE_SIZE, 2 * PAGE_SIZE)
        kept = b"\1" if shared else b"\0"
        assert region[PAGE_SIZE : 2 * PAGE_SIZE] == kept * PAGE_SIZE
        assert region[:PAGE_SIZE] == b"\1" * PAGE_SIZE
        region.discard(PAGE_SIZE, PAGE_SIZE)
        with pytest.raises(ProtectionError):
            region.advise(12345)


def test_two_thousand_regions_come_and_go_while_another_thread_faults(misbehave: ModuleType, blocked: Region) -> None:
    stop = threading.Event()
    raised = 0

    def fault() -> None:
        nonlocal raised
        with catch_faults():
            while not stop.is_set():
                try:
                    misbehave.write(blocked.address + raised % 50 * PAGE_SIZE, 1, gil=False)
                except FaultError:
                    raised += 1

    thread = threading.Thread(target=fault)
    thread.start()
    try:
        regions = [Region(PAGE_SIZE, "r--", shared=index % 2 == 0) for index in range(500)]
        for index in range(1500):
            old, regions[index % 500] = regions[index % 500], Region(PAGE_SIZE, shared=index % 2 == 0)
            old.close()
        assert all(region[0] == 0 for region in regions)
        for region in regions:
            region.close()
    finally:
        stop.set()
        thread.join()
    assert raised > 0


def state_of_the_process() -> tuple[int, list[str]]:
    return len(os.listdir("/proc/self/fd")), [
        line for line in Path("/proc/self/maps").read_text().splitlines() if "memprot" in line or "rw-s" in line
    ]


def test_after_closing_no_descriptor_and_no_mapping_is_left(misbehave: ModuleType, shared: bool, prot: str) -> None:
    def work() -> None:
        with Region(SIZE, shared=shared, name="memprot-test") as region:
            region.protect(prot)
            with pytest.raises(FaultError), catch_faults():
                misbehave.stosb(region.address, 1, SIZE)

    work()
    before = state_of_the_process()
    for _ in range(20):
        work()
    assert state_of_the_process() == before


def test_a_protection_the_kernel_refuses_is_a_protection_error(tmp_path: Path) -> None:
    path = tmp_path / "readable"
    path.write_bytes(bytes(PAGE_SIZE))
    with Region.from_file(path, "r--") as region:
        with pytest.raises(ProtectionError) as caught:
            region.protect("rw-")
        assert isinstance(caught.value, PermissionError)
        assert protections(region) == ["r--"]
        assert str(region.prot) == "r--"


def test_a_protection_changed_behind_its_back_does_not_hang(misbehave: ModuleType, shared: bool) -> None:
    with Region(PAGE_SIZE, shared=shared) as region:
        calls.mprotect(region.address, PAGE_SIZE, Prot.READ)
        with pytest.raises(FaultError):
            region[0] = 1
        calls.mprotect(region.address, PAGE_SIZE, Prot.READ | Prot.WRITE)
        region[0] = 1
