"""A Region's own accessors where pages in the middle are forbidden: how far they went, and that no signal is raised."""

import faulthandler
import signal
from collections.abc import Callable, Iterator

import pytest

from memprot import PAGE_SIZE, FaultError, Region, calls

ONES = b"\xee" * 4 * PAGE_SIZE
CONTENT = bytes(range(256)) * (PAGE_SIZE // 64)


@pytest.fixture
def region(shared: bool) -> Iterator[Region]:
    """Four pages, of which the third may not be read and the last not be written."""
    with Region(4 * PAGE_SIZE, shared=shared) as region:
        region[:] = CONTENT
        region.protect("---", 2 * PAGE_SIZE, 3 * PAGE_SIZE)
        region.protect("r--", 3 * PAGE_SIZE)
        yield region


READS: dict[str, tuple[Callable[[Region], object], slice]] = {
    "region[100:]": (lambda region: region[100:], slice(100, 2 * PAGE_SIZE)),
    "region.read(100)": (lambda region: region.read(100), slice(100, 2 * PAGE_SIZE)),
    "region[i]": (lambda region: region[2 * PAGE_SIZE], slice(0, 0)),
    "region[100::7]": (lambda region: region[100::7], slice(100, 2 * PAGE_SIZE, 7)),
    "region[::-5]": (lambda region: region[::-5], slice(4 * PAGE_SIZE - 1, 3 * PAGE_SIZE - 1, -5)),
}


@pytest.mark.parametrize("name", READS)
def test_a_read_says_how_far_it_went(region: Region, name: str) -> None:
    act, read = READS[name]
    with pytest.raises(FaultError) as caught:
        act(region)
    fault = caught.value
    assert (fault.access, fault.cause, fault.region, fault.call) == ("read", "protection", region, None)
    assert fault.partial == CONTENT[read]
    assert fault.transferred == len(fault.partial)
    assert fault.offset is not None
    assert 2 * PAGE_SIZE <= fault.offset < 3 * PAGE_SIZE


WRITES: dict[str, tuple[Callable[[Region], object], slice]] = {
    "region[i] = 1": (lambda region: region.__setitem__(3 * PAGE_SIZE, 1), slice(0, 0)),
    "region[100:] = b": (lambda region: region.__setitem__(slice(100, None), ONES[100:]), slice(100, 2 * PAGE_SIZE)),
    "region.write(100, b)": (lambda region: region.write(100, ONES[100:]), slice(100, 2 * PAGE_SIZE)),
    "region[::3] = b": (lambda region: region.__setitem__(slice(0, None, 3), ONES[::3]), slice(0, 2 * PAGE_SIZE, 3)),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_says_how_far_it_went_and_writes_nothing_else(region: Region, name: str) -> None:
    act, written = WRITES[name]
    with pytest.raises(FaultError) as caught:
        act(region)
    fault = caught.value
    assert (fault.access, fault.cause, fault.region, fault.partial) == ("write", "protection", region, None)
    expected = bytearray(CONTENT)
    expected[written] = ONES[written]
    assert fault.transferred == len(ONES[written])
    region.protect("rw-")
    assert region[:] == expected


def test_what_others_have_changed_is_met_all_the_same(region: Region) -> None:
    """The protection that is remembered permits it; the kernel does not."""
    calls.mprotect(region.address, PAGE_SIZE, 0)
    with pytest.raises(FaultError) as caught:
        region[:10]
    assert (caught.value.transferred, caught.value.partial, caught.value.cause) == (0, b"", "protection")
    calls.mprotect(region.address, 4 * PAGE_SIZE, 3)
    assert region[:] == CONTENT


def test_no_signal_is_raised_where_the_protection_is_known(region: Region) -> None:
    """With the default handlers, and blocked, a signal would be the end."""
    enabled = faulthandler.is_enabled()
    numbers = (signal.SIGSEGV, signal.SIGBUS)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        for act, _ in (*READS.values(), *WRITES.values()):
            with pytest.raises(FaultError):
                act(region)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        if enabled:
            faulthandler.enable()
