"""Pages that a file has lost, or never got: a FaultError inside a scope, and the mapping as it was afterwards."""

import contextlib
import mmap
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import pytest

from memprot import PAGE_SIZE, AddressSpace, FaultError, Mapping, Region, catch_faults, protect, protected
from memprot._native import buffer_range
from memprot.faults.engine import add_listener, drain, remove_listener

if TYPE_CHECKING:
    from memprot.faults.policy import Policy
    from memprot.faults.record import FaultRecord

RunChild = Callable[..., subprocess.CompletedProcess[str]]

PAGES = 8
ACCESS = {"shared": mmap.ACCESS_WRITE, "private": mmap.ACCESS_COPY, "read-only": mmap.ACCESS_READ}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(b"abcdefgh" * (PAGES * PAGE_SIZE // 8))
    return path


@pytest.fixture(params=ACCESS)
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def mapped(file: Path, how: str = "shared") -> Iterator[mmap.mmap]:
    with open(file, "r+b") as opened, mmap.mmap(opened.fileno(), 0, access=ACCESS[how]) as mapping:
        yield mapping


@pytest.fixture
def memory(file: Path, how: str) -> Iterator[mmap.mmap]:
    with mapped(file, how) as mapping:
        yield mapping


def mappings_of(memory: mmap.mmap) -> list[Mapping]:
    start, size, _ = buffer_range(memory)
    return [mapping for mapping in AddressSpace() if mapping.start < start + size and mapping.stop > start]


def fault_of(act: Callable[[], object]) -> FaultError:
    with pytest.raises(FaultError) as caught, catch_faults():
        act()
    return caught.value


def at(position: int, act: Callable[[mmap.mmap], object]) -> Callable[[mmap.mmap], object]:
    def act_there(memory: mmap.mmap) -> object:
        memory.seek(position)
        return act(memory)

    return act_there


def write_byte(memory: mmap.mmap) -> None:
    memory.write_byte(1)


READS: dict[str, Callable[[mmap.mmap], object]] = {
    "index": lambda memory: memory[PAGE_SIZE + 904],
    "read": lambda memory: memory.read(),
    "read_byte": at(PAGE_SIZE, lambda memory: memory.read_byte()),
    "readline": lambda memory: memory.readline(),
    "slice": lambda memory: memory[10:-10],
    "slice with a step": lambda memory: memory[10:-10:700],
    "slice backwards": lambda memory: memory[::-1],
    "bytes": bytes,
    "find": lambda memory: memory.find(b"nowhere"),
    "rfind": lambda memory: memory.rfind(b"nowhere"),
    "re": lambda memory: re.search(b"nowhere", memory),
    "compare": lambda memory: memoryview(memory) == b"abcdefgh" * (len(memory) // 8),
    "iterate": lambda memory: list(memory),
    "join": lambda memory: b"".join([memory]),
}
WRITES: dict[str, Callable[[mmap.mmap], object]] = {
    "index": lambda memory: memory.__setitem__(PAGE_SIZE, 1),
    "slice": lambda memory: memory.__setitem__(slice(10, PAGE_SIZE + 10), bytes(PAGE_SIZE)),
    "write": at(10, lambda memory: memory.write(bytes(PAGE_SIZE))),
    "write_byte": at(3 * PAGE_SIZE, write_byte),
    "move": lambda memory: memory.move(PAGE_SIZE, 0, PAGE_SIZE),
}


@pytest.mark.parametrize("read", READS)
def test_reading_what_the_file_has_lost_raises_and_names_the_file(file: Path, memory: mmap.mmap, read: str) -> None:
    before = mappings_of(memory)
    os.truncate(file, PAGE_SIZE)
    fault = fault_of(lambda: READS[read](memory))
    start, size, _ = buffer_range(memory)
    assert (fault.cause, fault.access, fault.file, fault.file_size) == ("bus", "read", str(file), PAGE_SIZE)
    assert fault.address is not None
    assert start + PAGE_SIZE <= fault.address < start + size
    assert f"the file {file} ends at byte {PAGE_SIZE} now, the mapping goes on to {size}" in str(fault)
    assert fault.mapping.path == str(file)
    assert fault.record is not None
    assert fault.record.signal == signal.SIGBUS
    assert mappings_of(memory) == before
    assert memory[: PAGE_SIZE // 2] == b"abcdefgh" * (PAGE_SIZE // 16)


@pytest.mark.parametrize("write", WRITES)
def test_what_is_written_there_vanishes(file: Path, write: str) -> None:
    for how in ("shared", "private"):
        with mapped(file, how) as memory:
            before = mappings_of(memory)
            os.truncate(file, PAGE_SIZE)
            fault = fault_of(lambda: WRITES[write](memory))
            assert (fault.cause, fault.file, fault.file_size) == ("bus", str(file), PAGE_SIZE)
            assert mappings_of(memory) == before
            os.truncate(file, PAGES * PAGE_SIZE)
            assert memory[PAGE_SIZE:] == bytes((PAGES - 1) * PAGE_SIZE)
            assert file.read_bytes()[PAGE_SIZE:] == bytes((PAGES - 1) * PAGE_SIZE)


def test_a_file_that_grows_again_is_seen_again_with_what_other_processes_write(file: Path, memory: mmap.mmap) -> None:
    os.truncate(file, 0)
    fault = fault_of(lambda: memory.read())
    assert fault.file_size == 0
    program = f"file = open({str(file)!r}, 'r+b'); file.truncate({PAGES * PAGE_SIZE}); file.write(b'new')"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (memory[:4], memory[-1]) == (b"new\0", 0)
    subprocess.run([sys.executable, "-c", f"open({str(file)!r}, 'r+b').write(b'other')"], check=True)
    with catch_faults():
        assert memory[:6] == b"other\0"


def test_writes_reach_the_file_again_once_it_has_grown(file: Path) -> None:
    with mapped(file) as memory:
        os.truncate(file, 0)
        fault_of(lambda: memory.__setitem__(5, 1))
        os.truncate(file, PAGES * PAGE_SIZE)
        memory[5] = 7
        memory.flush()
    assert file.read_bytes()[5] == 7


def test_the_rest_of_the_last_page_is_no_fault(file: Path, memory: mmap.mmap) -> None:
    os.truncate(file, PAGE_SIZE + 1)
    with catch_faults() as scope:
        assert memory[PAGE_SIZE + 1 : 2 * PAGE_SIZE] == bytes(PAGE_SIZE - 1)
    assert scope.faults == ()


def test_every_access_raises_for_as_long_as_the_bytes_are_missing(file: Path, memory: mmap.mmap) -> None:
    before = len(list(AddressSpace()))
    os.truncate(file, PAGE_SIZE)
    for index in range(PAGE_SIZE, PAGES * PAGE_SIZE, 1000):
        assert fault_of(lambda index=index: memory[index]).cause == "bus"  # type: ignore[misc]
    assert len(list(AddressSpace())) <= before + 1  # a page of memory for what is kept of them


def test_a_file_without_a_name_is_found_by_its_descriptor() -> None:
    fd = os.memfd_create("short")
    os.ftruncate(fd, 100 * PAGE_SIZE)
    with mmap.mmap(fd, 0) as memory:
        before = mappings_of(memory)
        os.ftruncate(fd, 10)
        fault = fault_of(lambda: memory.read())
        assert (fault.cause, fault.file, fault.file_size) == ("bus", "/memfd:short", 10)
        assert fault.others == ()
        fault = fault_of(lambda: memory.move(0, PAGE_SIZE, 50 * PAGE_SIZE))
        assert (fault.access, fault.file_size) == ("read", 10)
        assert mappings_of(memory) == before
    os.close(fd)


def test_a_removed_file_is_told_by_the_name_it_had(file: Path, memory: mmap.mmap) -> None:
    os.truncate(file, 0)
    file.unlink()
    fault = fault_of(lambda: memory[0])
    assert (fault.file, fault.file_size, fault.mapping.deleted) == (str(file), 0, True)


def test_an_array_over_a_file_raises(file: Path) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.memmap(file, dtype="u8", mode="r+")
    os.truncate(file, PAGE_SIZE)
    for act in (array.sum, array.copy, lambda: array.fill(1), array.tobytes, lambda: numpy.sort(array)):
        assert fault_of(act).file == str(file)
    os.truncate(file, PAGES * PAGE_SIZE)
    assert array[PAGE_SIZE // 8 :].sum() == 0
    assert array[: PAGE_SIZE // 8].tolist() == [1] * (PAGE_SIZE // 8)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "private"])
@pytest.mark.parametrize("prot", ["rw-", "r--", "---"])
def test_foreign_code_on_a_region_over_a_shortened_file_raises(
    misbehave: ModuleType, file: Path, shared: bool, prot: str
) -> None:
    with Region.from_file(file, "rw-", shared=shared) as region:
        region.protect(prot)
        before = region.mappings
        os.truncate(file, PAGE_SIZE)
        address = region.address + 2 * PAGE_SIZE
        for act, access in (
            (lambda: misbehave.write(address, 1, gil=False), "write"),
            (lambda: misbehave.read(address), "read"),
            (lambda: misbehave.set(address - PAGE_SIZE, 1, 3 * PAGE_SIZE), "write"),
        ):
            if prot == "r--" and access == "read":
                continue
            fault = fault_of(act)
            assert (fault.access, fault.region) == (access, region)
            assert fault.cause == ("bus" if prot == "rw-" else "protection")
            assert region.mappings == before
        if prot != "---":
            fault = fault_of(lambda: misbehave.read(address, gil=False))
            assert (fault.cause, fault.file, fault.offset) == ("bus", str(file), 2 * PAGE_SIZE)
        assert str(region.prot) == prot
        os.truncate(file, PAGES * PAGE_SIZE)
        region.protect("r--")
        assert region[PAGE_SIZE:] == bytes((PAGES - 1) * PAGE_SIZE)
        file.write_bytes(b"z" * PAGES * PAGE_SIZE)
        assert region[:] == b"z" * PAGES * PAGE_SIZE


def test_memory_that_was_given_to_protect_keeps_its_protection(file: Path, memory: mmap.mmap, how: str) -> None:
    before = mappings_of(memory)
    with protected(memory, "r--"):
        os.truncate(file, PAGE_SIZE)
        if how != "read-only":
            fault = fault_of(lambda: memory.__setitem__(2 * PAGE_SIZE, 1))
            assert (fault.access, fault.cause) == ("write", "protection")
        assert fault_of(lambda: memory[2 * PAGE_SIZE]).cause == "bus"
        assert [str(mapping.prot) for mapping in mappings_of(memory)] == ["r--"]
    assert mappings_of(memory) == before


def test_a_scope_of_protection_may_end_before_the_fault_is_told(
    misbehave: ModuleType, file: Path, memory: mmap.mmap
) -> None:
    before = mappings_of(memory)
    os.truncate(file, PAGE_SIZE)
    start = buffer_range(memory)[0]
    with pytest.raises(FaultError) as caught, catch_faults():
        with protected(memory, "r--"):
            misbehave.call_and_swallow(lambda: misbehave.read(start + PAGE_SIZE))
        assert mappings_of(memory) == before
        misbehave.read(start + PAGE_SIZE)
    assert caught.value.cause == "bus"


def test_a_change_of_protection_meanwhile_lasts(misbehave: ModuleType, file: Path) -> None:
    with mapped(file) as memory:
        start = buffer_range(memory)[0]
        os.truncate(file, PAGE_SIZE)
        with pytest.raises(FaultError), catch_faults():
            misbehave.write_from_c_thread(start + PAGE_SIZE, 1)
            protect(memory, "r--")
        assert [str(mapping.prot) for mapping in mappings_of(memory)] == ["r--"]
        protect(memory, "rw-")


def test_what_was_mapped_in_its_place_meanwhile_is_left_alone(misbehave: ModuleType, file: Path) -> None:
    from memprot import calls
    from memprot.flags import MapFlag

    with open(file, "r+b") as opened:
        start = calls.mmap(0, PAGES * PAGE_SIZE, 3, MapFlag.SHARED, opened.fileno(), 0)
        os.truncate(file, 0)
        with pytest.raises(FaultError), catch_faults():
            misbehave.write_from_c_thread(start, 1)
            calls.munmap(start, PAGES * PAGE_SIZE)
            calls.mmap(start, PAGE_SIZE, 3, MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED)
            misbehave.write(start, 77)
    assert misbehave.read(start) == 77
    here = AddressSpace().find(start)
    assert here is not None
    assert here.path is None
    assert not [mapping for mapping in AddressSpace() if mapping.path == str(file)]
    calls.munmap(start, PAGE_SIZE)


@pytest.mark.parametrize("policy", ["log", "discard"])
def test_policies_that_do_not_raise_let_it_vanish_and_write_it_down(file: Path, policy: "Policy") -> None:
    """Nobody can let the access really happen."""
    with mapped(file) as memory:
        before = mappings_of(memory)
        os.truncate(file, PAGE_SIZE)
        heard: list[FaultRecord] = []
        add_listener(heard.append)
        with catch_faults(policy=policy):
            assert memory[PAGE_SIZE] == 0
            memory[2 * PAGE_SIZE] = 1
        drain()
        remove_listener(heard.append)
        assert [(record.access, record.kind, record.file and record.file.path) for record in heard] == [
            ("read", "bus", str(file))
        ]
        assert mappings_of(memory) == before


def test_a_callable_decides_after_the_fact(file: Path) -> None:
    seen = []

    def decide(fault: FaultError) -> Literal["raise", "discard"]:
        seen.append(fault.file)
        return "raise" if fault.access == "write" else "discard"

    with mapped(file) as memory:
        os.truncate(file, PAGE_SIZE)
        with catch_faults(policy=decide):
            assert memory.find(b"nowhere") == -1
        with pytest.raises(FaultError) as caught, catch_faults(policy=decide):
            memory.move(PAGE_SIZE, 0, PAGE_SIZE)
        assert caught.value.access == "write"
        assert seen == [str(file)] * 2


pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def test_a_child_that_is_forked_before_it_is_told_has_the_mapping_too(misbehave: ModuleType, file: Path) -> None:
    with mapped(file) as memory:
        start = buffer_range(memory)[0]
        os.truncate(file, 0)
        with pytest.raises(FaultError), catch_faults():
            misbehave.write_from_c_thread(start, 1)
            child = os.fork()
            if child == 0:
                os.truncate(file, PAGE_SIZE)
                file.write_bytes(b"x" * PAGE_SIZE)
                os._exit(0 if memory[:3] == b"xxx" else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert memory[:3] == b"xxx"
