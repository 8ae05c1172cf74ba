"""Regions over files, and Regions after a fork."""

import ctypes
import faulthandler
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from memprot import PAGE_SIZE, FaultError, ProtectionError, Region


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * (3 * PAGE_SIZE // 256) + b"tail")
    return path


SIZE = 3 * PAGE_SIZE + 4


def test_a_file_is_mapped_whole(file: Path) -> None:
    for source in (file, str(file)):
        with Region.from_file(source, "r--") as region:
            assert len(region) == SIZE
            assert region.read() == file.read_bytes()
            assert region.shared
            assert region.mappings[0].path == str(file)


def test_a_shared_mapping_reaches_the_file(file: Path) -> None:
    with Region.from_file(file, "rw-") as region:
        region[:3] = b"new"
        region[-1] = ord("L")
    content = file.read_bytes()
    assert (content[:3], content[-4:], len(content)) == (b"new", b"taiL", SIZE)


def test_a_private_mapping_does_not(file: Path) -> None:
    before = file.read_bytes()
    with Region.from_file(file, "rw-", shared=False) as region:
        region[:3] = b"new"
        assert region[:3] == b"new"
        region.protect("r--")
        with pytest.raises(FaultError):
            region[0] = 1
    assert file.read_bytes() == before


def test_an_open_file_is_mapped_and_stays_open(file: Path) -> None:
    with open(file, "r+b") as opened:
        with Region.from_file(opened, "rw-") as region:
            region[0] = 42
        opened.seek(0)
        assert opened.read(1) == b"*"


def test_a_region_outlives_the_file_it_was_made_from(file: Path) -> None:
    with open(file, "rb") as opened:
        region = Region.from_file(opened, "r--")
    file.unlink()
    assert region[-4:] == b"tail"
    region.close()


def test_offset_and_size_choose_a_part(file: Path) -> None:
    with Region.from_file(file, "r--", offset=PAGE_SIZE, size=10) as region:
        assert len(region) == 10
        assert region.read() == file.read_bytes()[PAGE_SIZE : PAGE_SIZE + 10]
    with Region.from_file(file, "r--", offset=3 * PAGE_SIZE) as region:
        assert region.read() == b"tail"


@pytest.mark.parametrize(
    ("offset", "size"), [(1, None), (-PAGE_SIZE, None), (0, SIZE + 1), (0, 0), (4 * PAGE_SIZE, None)]
)
def test_a_part_that_does_not_fit_the_file_is_a_value_error(file: Path, offset: int, size: int | None) -> None:
    with pytest.raises(ValueError, match=r"offset|byte"):
        Region.from_file(file, "r--", offset=offset, size=size)


def test_an_empty_file_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="at least one byte"):
        Region.from_file(tmp_path / "empty", "r--")


def test_what_cannot_be_mapped_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Region.from_file(tmp_path / "absent", "r--")
    with pytest.raises((ProtectionError, ValueError)):
        Region.from_file(tmp_path, "r--")
    with pytest.raises((TypeError, io.UnsupportedOperation)):
        Region.from_file(io.BytesIO(b"abc"), "r--")


def test_a_file_opened_for_reading_cannot_be_mapped_for_shared_writing(file: Path) -> None:
    with open(file, "rb") as opened:
        with pytest.raises(ProtectionError) as caught:
            Region.from_file(opened, "rw-")
        assert isinstance(caught.value, PermissionError)
        with Region.from_file(opened, "rw-", shared=False) as region:
            region[0] = 1


@pytest.mark.parametrize("how", ["shared", "private"])
def test_a_truncated_file_is_a_bus_fault_by_the_accessors(file: Path, how: str) -> None:
    with Region.from_file(file, "rw-", shared=how == "shared") as region:
        os.truncate(file, PAGE_SIZE)
        assert region[PAGE_SIZE - 1] == 255

        def store_slice() -> None:
            region[PAGE_SIZE - 1 : PAGE_SIZE + 1] = b"ab"

        actions: list[tuple[Callable[[], object], str, int]] = [
            (lambda: region[PAGE_SIZE], "read", PAGE_SIZE),
            (lambda: region[:], "read", PAGE_SIZE),
            (lambda: region.read(2 * PAGE_SIZE), "read", 2 * PAGE_SIZE),
            (lambda: region.__setitem__(PAGE_SIZE + 5, 1), "write", PAGE_SIZE + 5),
            (store_slice, "write", PAGE_SIZE),
        ]
        for act, access, offset in actions:
            with pytest.raises(FaultError) as caught:
                act()
            fault = caught.value
            assert (fault.cause, fault.access, fault.offset, fault.region) == ("bus", access, offset, region)
            assert "file" in str(fault) or "bus" in str(fault)


def in_child(act: Callable[[], bool]) -> int:
    """Fork, act there, and return the exit status: 0 when it returned true."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if act() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def test_after_a_fork_only_a_shared_region_is_shared(shared: bool) -> None:
    with Region(PAGE_SIZE, shared=shared) as region:
        region[0] = 1

        def write() -> bool:
            seen = region[0] == 1
            region[1] = 2
            return seen

        assert in_child(write) == 0
        assert region[1] == (2 if shared else 0)


def test_a_child_has_the_protections_of_its_parent(shared: bool) -> None:
    with Region(2 * PAGE_SIZE, shared=shared) as region:
        region.protect("r--", PAGE_SIZE)

        def act() -> bool:
            try:
                region[PAGE_SIZE] = 1
            except FaultError:
                region.protect("rw-")
                return region.prot is not None
            return False

        assert in_child(act) == 0
        assert [str(mapping.prot) for mapping in region.mappings] == ["rw-", "r--"]


def test_closing_in_the_child_does_not_close_in_the_parent(shared: bool) -> None:
    with Region(PAGE_SIZE, shared=shared) as region:
        region[0] = 5

        def close() -> bool:
            region.close()
            return region.closed

        assert in_child(close) == 0
        assert region[0] == 5


def test_the_death_of_a_child_is_its_own(shared: bool) -> None:
    with Region(PAGE_SIZE, "r--", shared=shared) as region:
        view = region.address

        def die() -> bool:
            faulthandler.disable()
            os.close(2)
            ctypes.memset(view, 1, 1)
            return True

        assert in_child(die) == -signal.SIGSEGV
        assert region[0] == 0
