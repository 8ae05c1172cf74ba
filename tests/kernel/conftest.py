"""Memory to misbehave on."""

import errno
import gc
from collections.abc import Callable, Iterator

import pytest

from memprot import PAGE_SIZE, ProtectionError, Region, calls
from memprot.flags import MapFlag

PAGES = 64
PATTERN = bytes(range(1, 252)) * (PAGES * PAGE_SIZE // 251 + 1)

Content = Callable[[Region], bytes]
Answer = Callable[..., str]


def read_content(region: Region) -> bytes:
    """What a region's pages hold, whatever their protection."""
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(region.address)
        data = memory.read(region.size)
    assert data is not None
    return data


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Where it meets a fault by chance, its callbacks take the exception and only the scope's end raises it."""
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    gc.disable()
    yield
    gc.enable()
    gc.callbacks[:] = callbacks


@pytest.fixture
def content() -> Content:
    return read_content


@pytest.fixture(params=[False, True], ids=["private", "shared"])
def shared(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=["r--", "---"])
def prot(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def blocked(shared: bool, prot: str) -> Iterator[Region]:
    """A Region that may not be written; after the test its bytes and its protection are as before."""
    region = Region(PAGES * PAGE_SIZE, shared=shared)
    before = PATTERN[: region.size]
    region[:] = before
    region.protect(prot)
    yield region
    assert read_content(region) == before
    assert str(region.prot) == prot
    assert [str(mapping.prot) for mapping in region.mappings] == [prot] * len(region.mappings)
    region.close()


@pytest.fixture
def pages() -> Iterator[int]:
    """The address of four readable and writable pages with nothing mapped on either side."""
    private = MapFlag.PRIVATE | MapFlag.ANONYMOUS
    outer = calls.mmap(0, 6 * PAGE_SIZE, 0, private)
    calls.munmap(outer, PAGE_SIZE)
    calls.munmap(outer + 5 * PAGE_SIZE, PAGE_SIZE)
    calls.mprotect(outer + PAGE_SIZE, 4 * PAGE_SIZE, 3)
    yield outer + PAGE_SIZE
    calls.munmap(outer + PAGE_SIZE, 4 * PAGE_SIZE)


@pytest.fixture
def answer() -> Answer:
    """Ask for what becomes of a call: the name of its errno, or "success"."""

    def ask(call: Callable[..., object], *arguments: object) -> str:
        try:
            call(*arguments)
        except ProtectionError as error:
            assert error.call == call.__name__
            assert "\n" not in str(error)
            return errno.errorcode[error.errno or 0]
        return "success"

    return ask


@pytest.fixture
def vm_flags() -> Callable[[int], set[str]]:
    """The two-letter flags that /proc/self/smaps shows of the mapping at an address."""

    def flags(address: int) -> set[str]:
        inside = False
        with open("/proc/self/smaps") as smaps:
            for line in smaps:
                head = line.split(maxsplit=1)[0]
                if not head.endswith(":"):
                    start, stop = (int(end, 16) for end in head.split("-"))
                    inside = start <= address < stop
                elif inside and head == "VmFlags:":
                    return set(line.split()[1:])
        return set()

    return flags
