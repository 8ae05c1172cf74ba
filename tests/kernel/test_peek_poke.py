"""peek and poke: any address, any size; how far they went is what the kernel's own list of mappings says."""

import ctypes
import faulthandler
import mmap
import os
import signal
import tempfile
import threading
from collections.abc import Iterator

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import address_of

from memprot import PAGE_SIZE, FaultError, Prot, Region, calls, catch_faults, features, guarded, peek, poke
from memprot.flags import Advice, MapFlag

PRIVATE = MapFlag.PRIVATE | MapFlag.ANONYMOUS
TOP = 2**64


def failure_of_peek(address: int, size: int) -> FaultError:
    with pytest.raises(FaultError) as caught:
        peek(address, size)
    assert caught.value.access == "read"
    assert caught.value.partial is not None
    assert caught.value.transferred == len(caught.value.partial)
    assert caught.value.address == address + caught.value.transferred
    return caught.value


def failure_of_poke(address: int, data: bytes) -> FaultError:
    with pytest.raises(FaultError) as caught:
        poke(address, data)
    assert caught.value.access == "write"
    assert caught.value.partial is None
    assert caught.value.transferred is not None
    assert caught.value.address == address + caught.value.transferred
    return caught.value


def test_bytes_are_read_and_written() -> None:
    memory = ctypes.create_string_buffer(b"0123456789", 10)
    address = ctypes.addressof(memory)
    assert peek(address + 2, 3) == b"234"
    assert poke(address + 2, b"ab") == 2
    assert poke(address, numpy.array([0x7A79], "<u2").data) == 2
    assert memory.raw == b"yzab456789"
    assert peek(address, 0) == peek(0, 0) == peek(TOP - 1, 0) == b""
    assert poke(0, b"") == 0


def test_long_copies_are_whole() -> None:
    memory = numpy.random.default_rng(1).integers(0, 256, 5_000_001, "u1")
    assert peek(memory.ctypes.data, memory.nbytes) == memory.tobytes()
    copy = numpy.empty_like(memory)
    assert poke(copy.ctypes.data, memory.data) == memory.nbytes
    assert (copy == memory).all()


# ---- every page layout

PROTECTIONS = st.lists(st.sampled_from(["---", "r--", "rw-", "--x", "r-x", "hole", "guard"]), min_size=1, max_size=8)
ALL = 10 * PAGE_SIZE


class Pages:
    """Pages of random protections, and at least one on either side that permits nothing."""

    def __init__(self, kinds: list[str]) -> None:
        self.size = len(kinds) * PAGE_SIZE
        self.start = calls.mmap(0, ALL, 0, PRIVATE) + PAGE_SIZE
        calls.mprotect(self.start, self.size, 3)
        self.content = (b"%-16x" % id(self) * (self.size // 16 + 1))[: self.size]
        assert poke(self.start, self.content) == self.size
        for page, kind in enumerate(kinds):
            address = self.start + page * PAGE_SIZE
            if kind == "hole":
                calls.munmap(address, PAGE_SIZE)
            elif kind == "guard" and features.available("madv_guard"):
                calls.madvise(address, PAGE_SIZE, Advice.GUARD_INSTALL)
            else:
                calls.mprotect(address, PAGE_SIZE, Prot(kind) if kind != "guard" else 0)
        self.kinds = kinds

    def close(self) -> None:
        calls.munmap(self.start - PAGE_SIZE, ALL)

    def reach(self, offset: int, size: int, flag: str) -> int:
        """How many bytes from an offset on have that letter in /proc/self/maps, and are no guards."""
        with open("/proc/self/maps") as maps:
            rows = [line.split()[:2] for line in maps]
        allowed = [tuple(int(end, 16) for end in span.split("-")) for span, prot in rows if flag in prot]
        at = offset
        while at < offset + size:
            page = at // PAGE_SIZE
            address = self.start + at
            if not any(start <= address < stop for start, stop in allowed):
                break
            if 0 <= page < len(self.kinds) and self.kinds[page] == "guard" and features.available("madv_guard"):
                break
            at = (page + 1) * PAGE_SIZE
        return min(max(at - offset, 0), size)


OFFSETS = st.integers(-PAGE_SIZE, 8 * PAGE_SIZE)
SIZES = st.integers(1, 5 * PAGE_SIZE) | st.sampled_from([PAGE_SIZE, 2**20, 2**40, 2**62])


@given(PROTECTIONS, OFFSETS, SIZES)
def test_reading_goes_as_far_as_the_mappings_permit(kinds: list[str], offset: int, size: int) -> None:
    pages = Pages([kind.replace("--x", "---") for kind in kinds])
    try:
        reach = pages.reach(offset, min(size, 2**21), "r")
        if reach == size:
            assert peek(pages.start + offset, size) == pages.content[offset : offset + size]
        else:
            fault = failure_of_peek(pages.start + offset, size)
            assert fault.transferred == reach
            if reach:
                assert fault.partial == pages.content[offset : offset + reach]
    finally:
        pages.close()


@given(PROTECTIONS, OFFSETS, st.integers(1, 5 * PAGE_SIZE))
def test_writing_goes_as_far_as_the_mappings_permit(kinds: list[str], offset: int, size: int) -> None:
    pages = Pages(kinds)
    try:
        reach = pages.reach(offset, size, "w")
        data = os.urandom(size)
        if reach == size:
            assert poke(pages.start + offset, data) == size
        else:
            assert failure_of_poke(pages.start + offset, data).transferred == reach
        for page, kind in enumerate(kinds):
            if kind == "hole" or (kind == "guard" and features.available("madv_guard")):
                continue
            calls.mprotect(pages.start + page * PAGE_SIZE, PAGE_SIZE, 1)
            expected = bytearray(pages.content)
            if reach:
                expected[offset : offset + reach] = data[:reach]
            at = page * PAGE_SIZE
            assert peek(pages.start + at, PAGE_SIZE) == expected[at : at + PAGE_SIZE]
    finally:
        pages.close()


# ---- single addresses

ODD_ADDRESSES = {
    "null": 0,
    "the first page": 8,
    "below the lowest mapping": mmap.PAGESIZE,
    "the last of a process": 2**47 - PAGE_SIZE,
    "just behind it": 2**47,
    "not canonical": 2**60,
    "the kernel's first": 0xFFFF800000000000,
    "the kernel's text": 0xFFFFFFFF81000000,
    "the vsyscall page": 0xFFFFFFFFFF600000,
    "the very last": TOP - 1,
}


@pytest.mark.parametrize("name", ODD_ADDRESSES)
@pytest.mark.parametrize("size", [1, 8, PAGE_SIZE, 2**20, 2**40, 2**63, 2**64 - 1])
def test_odd_addresses_are_faults(name: str, size: int) -> None:
    address = ODD_ADDRESSES[name]
    fault = failure_of_peek(address, size)
    assert (fault.transferred, fault.region) == (0, None)
    assert fault.cause in ("unmapped", "protection")
    assert failure_of_poke(address, b"x").transferred == 0


def test_a_range_that_runs_out_of_the_address_space_is_read_up_to_its_end() -> None:
    last = 2**47 - 2 * PAGE_SIZE
    try:
        calls.mmap(last, PAGE_SIZE, 3, PRIVATE | MapFlag.FIXED_NOREPLACE)
    except OSError:
        pytest.skip("the last page of this address space is in use, or not there")
    try:
        for size in (2 * PAGE_SIZE, 2**30, 2**63):
            assert failure_of_peek(last, size).transferred == PAGE_SIZE
        assert failure_of_poke(last, bytes(3 * PAGE_SIZE)).transferred == PAGE_SIZE
    finally:
        calls.munmap(last, PAGE_SIZE)


def test_a_file_that_has_become_shorter_is_read_up_to_its_end() -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(3 * PAGE_SIZE)
        with mmap.mmap(file.fileno(), 3 * PAGE_SIZE) as memory:
            address = address_of(memory)
            file.truncate(PAGE_SIZE)
            assert failure_of_peek(address, 3 * PAGE_SIZE).transferred == PAGE_SIZE
            fault = failure_of_poke(address + 5, bytes(3 * PAGE_SIZE - 5))
            assert (fault.transferred, fault.cause, fault.file_size) == (PAGE_SIZE - 5, "bus", PAGE_SIZE)


def test_a_guard_and_a_regions_protection_are_named() -> None:
    block = guarded(10)
    fault = failure_of_peek(block.address, 11)
    assert (fault.cause, fault.offset, fault.transferred, fault.region) == ("guard", 10, 10, block)
    with Region(2 * PAGE_SIZE) as region:
        region.protect("---", PAGE_SIZE)
        fault = failure_of_peek(region.address, region.size)
        assert (fault.cause, fault.offset, fault.region) == ("protection", PAGE_SIZE, region)


def test_secret_memory_is_read_by_its_owner() -> None:
    if not features.available("memfd_secret"):
        pytest.skip("this kernel has no secret memory")
    fd = calls.memfd_secret(0)
    os.ftruncate(fd, PAGE_SIZE)
    address = calls.mmap(0, PAGE_SIZE, 3, MapFlag.SHARED, fd, 0)
    try:
        assert poke(address, b"hidden") == 6
        assert peek(address, 6) == b"hidden"
        other = ctypes.create_string_buffer(6)
        hidden = (ctypes.c_char * 6).from_address(address)
        assert poke(ctypes.addressof(other), hidden) == 6
        assert other.raw == b"hidden"
    finally:
        calls.munmap(address, PAGE_SIZE)
        os.close(fd)


def test_data_that_cannot_be_read_is_told_from_memory_that_cannot_be_written() -> None:
    with Region(2 * PAGE_SIZE) as source, Region(2 * PAGE_SIZE) as target:
        data = memoryview(source)
        source.protect("---", PAGE_SIZE)
        with pytest.raises(FaultError) as caught:
            poke(target.address, data)
        assert (caught.value.access, caught.value.address) == ("read", source.address + PAGE_SIZE)
        assert (caught.value.transferred, caught.value.region) == (PAGE_SIZE, source)
        target.protect("r--", PAGE_SIZE)
        with pytest.raises(FaultError) as caught:
            poke(target.address + 1, data)
        assert (caught.value.access, caught.value.transferred) == ("write", PAGE_SIZE - 1)
        data.release()


# ---- arguments


@pytest.mark.parametrize("wrong", [True, 1.0, None, "1"])
def test_arguments_that_are_no_int_are_type_errors(wrong: int) -> None:
    for act in (lambda: peek(wrong, 1), lambda: peek(0, wrong), lambda: poke(wrong, b"")):
        with pytest.raises(TypeError, match="must be an int"):
            act()
    with pytest.raises(TypeError):
        poke(0, wrong)  # type: ignore[arg-type]


def test_numbers_that_no_address_has_are_refused() -> None:
    for act in (lambda: peek(-1, 1), lambda: peek(0, -1), lambda: poke(-1, b"")):
        with pytest.raises(ValueError, match="must not be negative"):
            act()
    for act in (lambda: peek(TOP, 1), lambda: peek(0, TOP), lambda: poke(TOP, b"")):
        with pytest.raises(OverflowError, match="does not fit in 64 bits"):
            act()


def test_there_is_no_room_for_a_copy_of_more_than_memory() -> None:
    size = 1 << 46
    try:
        address = calls.mmap(0, size, 1, PRIVATE | MapFlag.NORESERVE)
    except OSError:
        pytest.skip("so much address space is not to be had")
    try:
        with pytest.raises(MemoryError, match=f"a copy of {size} bytes"):
            peek(address, size)
    finally:
        calls.munmap(address, size)


# ---- whoever handles the signal


@pytest.fixture
def other_handler() -> Iterator[None]:
    """SIGSEGV and SIGBUS at their defaults: whatever raises one dies."""
    before = [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGSEGV, signal.SIGBUS)]
    yield
    for number, handler in zip((signal.SIGSEGV, signal.SIGBUS), before, strict=True):
        signal.signal(number, handler)


def everything(region: Region) -> None:
    fault = failure_of_peek(region.address, region.size)
    assert fault.transferred == PAGE_SIZE
    assert failure_of_poke(region.address + 1, bytes(region.size)).transferred == PAGE_SIZE - 1
    assert failure_of_peek(0, 1).cause == "unmapped"
    assert failure_of_poke(2**60, b"1").cause == "unmapped"


def test_nobody_elses_handler_is_asked() -> None:
    with Region(2 * PAGE_SIZE) as region:
        region.protect("---", PAGE_SIZE)
        enabled = faulthandler.is_enabled()
        faulthandler.enable()
        everything(region)
        if not enabled:
            faulthandler.disable()
        with catch_faults() as scope:
            everything(region)
        assert scope.faults == ()


def test_no_handler_at_all_is_needed(other_handler: None) -> None:
    with Region(2 * PAGE_SIZE) as region:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        region.protect("---", PAGE_SIZE)
        everything(region)


def test_blocked_signals_do_not_matter_in_any_thread() -> None:
    done = []
    with Region(2 * PAGE_SIZE) as region:
        region.protect("---", PAGE_SIZE)

        def act() -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGSEGV, signal.SIGBUS})
            everything(region)
            done.append(True)

        threads = [threading.Thread(target=act) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert done == [True] * 4
