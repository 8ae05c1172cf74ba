"""Memory of a known shape, and files to map, for the tests of what the documents say."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memprot import PAGE_SIZE, AddressSpace, Prot, ProtectionError, calls
from memprot.flags import MapFlag

PAGES = 4


class Pages:
    """Four anonymous pages, readable and writable, with nothing mapped on either side."""

    def __init__(self, address: int) -> None:
        self.address = address
        self.size = PAGES * PAGE_SIZE

    def page(self, number: int) -> int:
        """The address of a page, counted from 0."""
        return self.address + number * PAGE_SIZE

    @property
    def prots(self) -> list[str]:
        """Page by page what /proc/self/maps says; a blank where nothing is mapped."""
        found = (AddressSpace().find(self.page(number)) for number in range(PAGES))
        return ["" if mapping is None else str(mapping.prot) for mapping in found]


@pytest.fixture
def pages() -> Iterator[Pages]:
    outer = calls.mmap(0, (PAGES + 2) * PAGE_SIZE, Prot.NONE, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
    calls.munmap(outer, PAGE_SIZE)
    calls.munmap(outer + (PAGES + 1) * PAGE_SIZE, PAGE_SIZE)
    calls.mprotect(outer + PAGE_SIZE, PAGES * PAGE_SIZE, Prot.READ | Prot.WRITE)
    yield Pages(outer + PAGE_SIZE)
    calls.munmap(outer + PAGE_SIZE, PAGES * PAGE_SIZE)


Refusal = Callable[..., int | None]


@pytest.fixture
def refusal() -> Refusal:
    """The errno with which a call is refused; None when it is not."""

    def call(function: Callable[..., object], *arguments: object) -> int | None:
        try:
            function(*arguments)
        except ProtectionError as error:
            return error.errno
        return None

    return call


MapFile = Callable[[Path, int, MapFlag], int]


@pytest.fixture
def map_file() -> Iterator[MapFile]:
    """The address of a file's first page, mapped for reading; the descriptor is closed again at once."""
    mapped: list[int] = []

    def map_it(path: Path, access: int, sharing: MapFlag) -> int:
        descriptor = os.open(path, access)
        try:
            mapped.append(calls.mmap(0, PAGE_SIZE, Prot.READ, sharing, descriptor))
        finally:
            os.close(descriptor)
        return mapped[-1]

    yield map_it
    for address in mapped:
        calls.munmap(address, PAGE_SIZE)


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    path = tmp_path / "page"
    path.write_bytes(bytes(PAGE_SIZE))
    return path
