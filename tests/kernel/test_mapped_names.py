"""Names of mapped files that were chosen to confuse whoever reads /proc/PID/maps."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from memprot import PAGE_SIZE, AddressSpace, Prot, calls
from memprot.flags import MapFlag


@contextmanager
def mapped(path: bytes) -> Iterator[int]:
    """A new file of that name, mapped; its address."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.ftruncate(fd, PAGE_SIZE)
    address = calls.mmap(0, PAGE_SIZE, Prot.READ, MapFlag.SHARED, fd)
    os.close(fd)
    try:
        yield address
    finally:
        calls.munmap(address, PAGE_SIZE)


HOSTILE = [
    b"two\nlines",
    b"literal\\012backslash",
    b"both\\012and\nmore\\012",
    b"escape\x1b[31m\x07",
    b"not utf-8 \xff\xfe",
    b"trailing space ",
    b" leading",
    b"living (deleted)",
    b"[heap]",
    b"rw-p 00000000 00:00 0",
    b"\xe2\x80\xaegnp.exe",
    b"x" * 255,
    b"\n" * 255,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_told_to_the_byte(tmp_path: Path, name: bytes) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    with mapped(path) as address:
        space = AddressSpace()
        found = space.find(address)
        assert found is not None
        assert found.path == os.fsdecode(path)
        assert not found.deleted
        assert found.kind == "file"
        assert next(mapping for mapping in space if address in mapping) == found
        os.unlink(path)
        unlinked = space.find(address)
        assert unlinked is not None
        assert (unlinked.path, unlinked.deleted) == (os.fsdecode(path), True)
        assert next(mapping for mapping in space if address in mapping) == unlinked


def test_a_name_longer_than_any_path_is_told_whole(tmp_path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    part = "d" * 250
    try:
        os.chdir(tmp_path)
        for _ in range(20):
            os.mkdir(part)
            os.chdir(part)
        with mapped(b"file") as address:
            expected = f"{tmp_path}/" + f"{part}/" * 20 + "file"
            space = AddressSpace()
            found = space.find(address)
            assert found is not None
            assert found.path == expected
            assert found in list(space)
        for _ in range(20):
            for name in os.listdir("."):
                (os.rmdir if os.path.isdir(name) else os.unlink)(name)
            os.chdir("..")
    finally:
        os.fchdir(here)
        os.close(here)
