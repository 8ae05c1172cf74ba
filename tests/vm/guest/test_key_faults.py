"""Accesses that a protection key forbids: told as such, and recovered without harm to threads that have the right."""

import ctypes
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from memprot import PAGE_SIZE, FaultError, Region, calls, catch_faults
from memprot.flags import KeyRights

KeyOf = Callable[[int], int]
Tag = Callable[[Region, int], None]
RunChild = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(params=[KeyRights.DISABLE_ACCESS, KeyRights.DISABLE_WRITE], ids=["no access", "no writes"])
def rights(request: pytest.FixtureRequest) -> KeyRights:
    return KeyRights(request.param)


def content(region: Region, key: int) -> bytes:
    calls.pkey_set(key, KeyRights.UNRESTRICTED)
    return region[:]


def test_accessors_raise_what_the_key_forbids(region: Region, key: int, tag: Tag, rights: KeyRights) -> None:
    before = region[:]
    tag(region, key)
    calls.pkey_set(key, rights)
    with pytest.raises(FaultError, match=f"it lies under protection key {key}") as fault:
        region[PAGE_SIZE] = 7
    assert (fault.value.cause, fault.value.key, fault.value.access) == ("key", key, "write")
    assert (fault.value.region, fault.value.offset) == (region, PAGE_SIZE)
    if rights == KeyRights.DISABLE_WRITE:
        assert region[:] == before
    else:
        for read in (lambda: region[0], lambda: region[:], lambda: region[::7], lambda: region.read(9, 4)):
            with pytest.raises(FaultError) as fault:
                read()
            assert (fault.value.cause, fault.value.key, fault.value.access) == ("key", key, "read")
    assert content(region, key) == before


def test_a_write_of_foreign_code_becomes_an_exception_and_changes_nothing(
    region: Region, key: int, tag: Tag, rights: KeyRights, key_of: KeyOf
) -> None:
    before = region[:]
    tag(region, key)
    calls.pkey_set(key, rights)
    with pytest.raises(FaultError) as fault, catch_faults():
        ctypes.memset(region.address + 100, 7, 2 * PAGE_SIZE)
    error = fault.value
    assert (error.cause, error.key, error.access, error.offset, error.others) == ("key", key, "write", 100, ())
    assert error.record is not None
    assert (error.record.kind, error.record.key, error.record.recovered) == ("key", key, True)
    assert [key_of(region.address + page * PAGE_SIZE) for page in range(4)] == [key] * 4
    assert [str(mapping.prot) for mapping in region.mappings] == ["rw-"] * len(region.mappings)
    assert calls.pkey_get(key) == rights
    assert content(region, key) == before


def test_foreign_code_reads_zeros_where_the_key_forbids_reading(
    region: Region, key: int, tag: Tag, key_of: KeyOf
) -> None:
    before = region[:]
    tag(region, key)
    calls.pkey_set(key, KeyRights.DISABLE_ACCESS)
    seen = b""
    with pytest.raises(FaultError) as fault, catch_faults():
        seen = ctypes.string_at(region.address + 8, 8)
    assert seen in (b"", bytes(8))
    assert (fault.value.cause, fault.value.key, fault.value.access) == ("key", key, "read")
    assert key_of(region.address) == key
    assert content(region, key) == before


def test_a_fault_of_the_protection_is_told_as_such_and_leaves_the_key(
    region: Region, key: int, tag: Tag, key_of: KeyOf
) -> None:
    before = region[:]
    tag(region, key)
    region.protect("r--", start=PAGE_SIZE)
    with pytest.raises(FaultError) as fault, catch_faults():
        ctypes.memset(region.address + PAGE_SIZE, 7, 2 * PAGE_SIZE)
    assert (fault.value.cause, fault.value.key) == ("protection", None)
    assert [key_of(region.address + page * PAGE_SIZE) for page in range(4)] == [key] * 4
    assert region[:] == before


def test_pages_of_several_keys_each_get_their_own_back(region: Region, key_of: KeyOf) -> None:
    before = region[:]
    keys = [calls.pkey_alloc() for _ in range(3)]
    region.protect("r--")
    for page, key in enumerate(keys):
        calls.pkey_mprotect(region.address + page * PAGE_SIZE, PAGE_SIZE, 1, key)
    calls.pkey_set(keys[1], KeyRights.DISABLE_ACCESS)
    with pytest.raises(FaultError), catch_faults():
        ctypes.memset(region.address, 7, region.size)
    assert [key_of(region.address + page * PAGE_SIZE) for page in range(4)] == [*keys, 0]
    assert content(region, keys[1]) == before


def test_a_thread_that_has_the_right_keeps_what_it_writes_meanwhile(region: Region, key: int, tag: Tag) -> None:
    """The pages are open for the thread that was blocked, and for no other."""
    tag(region, key)
    rounds, faults, stop = 100, 0, threading.Event()
    wrong: list[tuple[int, int]] = []

    def write_what_it_may() -> None:
        number = 0
        while not stop.is_set():
            number = (number + 1) % 256
            ctypes.memset(region.address, number, 64)
            for found in (ctypes.string_at(region.address, 1)[0], region[63]):
                if found != number:
                    wrong.append((number, found))

    owner = threading.Thread(target=write_what_it_may)
    owner.start()
    calls.pkey_set(key, KeyRights.DISABLE_ACCESS)
    try:
        for _ in range(rounds):
            try:
                with catch_faults():
                    ctypes.memset(region.address + 32, 0xEE, 64)
            except FaultError as fault:
                assert (fault.cause, fault.key, fault.others) == ("key", key, ())
                faults += 1
    finally:
        stop.set()
        owner.join()
    assert faults == rounds
    assert wrong == []
    assert content(region, key)[64:96] == bytes((at % 251) + 1 for at in range(64, 96))


def test_a_fault_is_raised_in_the_thread_that_lacks_the_right(region: Region, key: int, tag: Tag) -> None:
    tag(region, key)
    caught: list[FaultError] = []

    def trespass() -> None:
        calls.pkey_set(key, KeyRights.DISABLE_ACCESS)
        try:
            with catch_faults():
                ctypes.memset(region.address, 7, 8)
        except FaultError as fault:
            caught.append(fault)

    with catch_faults() as scope:
        thread = threading.Thread(target=trespass)
        thread.start()
        thread.join()
        ctypes.memset(region.address, 8, 8)
        assert scope.faults == ()
    assert [fault.key for fault in caught] == [key]
    assert region[:8] == bytes([8] * 8)


def test_two_threads_without_the_right_are_both_told(region: Region, key: int, tag: Tag) -> None:
    before = region[:]
    tag(region, key)
    calls.pkey_set(key, KeyRights.DISABLE_ACCESS)
    caught: list[int | None] = []

    def trespass() -> None:
        try:
            with catch_faults():
                ctypes.memset(region.address, 7, 8)
                together.wait(60)
        except FaultError as fault:
            caught.append(fault.key)
            if together.n_waiting == 0:
                together.abort()

    together = threading.Barrier(2)
    threads = [threading.Thread(target=trespass) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert caught == [key, key]
    assert content(region, key) == before


PREPARE = """
import ctypes
from memprot import FaultError, PAGE_SIZE, Region, calls, catch_faults
region = Region(PAGE_SIZE)
key = calls.pkey_alloc()
calls.pkey_mprotect(region.address, PAGE_SIZE, 3, key)
calls.pkey_set(key, 1)
"""


def test_outside_every_scope_the_program_dies_and_names_the_key(run_child: RunChild) -> None:
    done = run_child(PREPARE + "ctypes.memset(region.address, 7, 8)")
    assert done.returncode == -signal.SIGSEGV
    assert "which protection key 1 forbids" in done.stderr


def test_without_a_key_left_for_memprot_the_program_dies_as_it_would_have(run_child: RunChild) -> None:
    code = """
while True:
    try:
        calls.pkey_alloc()
    except OSError:
        break
with catch_faults():
    ctypes.memset(region.address, 7, 8)
"""
    done = run_child(PREPARE + code)
    assert done.returncode == -signal.SIGSEGV
    assert "which protection key 1 forbids" in done.stderr


def test_memory_under_a_freed_key_is_not_opened_because_it_could_not_be_closed(run_child: RunChild) -> None:
    done = run_child(PREPARE + "calls.pkey_free(key)\nwith catch_faults(): ctypes.memset(region.address, 7, 8)")
    assert done.returncode == -signal.SIGSEGV
    assert "which protection key 1 forbids" in done.stderr


def test_execute_only_memory_is_recovered_and_stays_execute_only(run_child: RunChild) -> None:
    code = """
region = Region(PAGE_SIZE)
region[:] = b"secret!!" * (PAGE_SIZE // 8)
region.protect("--x")
for _ in range(2):
    try:
        with catch_faults():
            ctypes.string_at(region.address, 8)
    except FaultError as fault:
        print(fault.cause, fault.key, region.mappings[0].prot)
region.protect("r-x")
print(region[:8])
"""
    done = run_child(PREPARE + code)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["key 2 --x", "key 2 --x", "b'secret!!'"]


def test_memprot_gives_its_own_key_back_when_its_last_memory_is_closed(run_child: RunChild) -> None:
    code = """
try:
    with catch_faults():
        ctypes.memset(region.address, 7, 8)
except FaultError as fault:
    print(fault.key, calls.pkey_alloc())
region.close()
print(calls.pkey_alloc())
"""
    done = run_child(PREPARE + code)
    assert done.stdout.split() == ["1", "3", "2"]


def test_memprot_run_tells_the_death_and_writes_the_key_into_the_document(tmp_path: Path) -> None:
    program, document = tmp_path / "program.py", tmp_path / "faults.json"
    program.write_text(
        "import ctypes\nfrom memprot import calls\n"
        "page = calls.mmap(0, 4096, 3, 34, -1, 0)\nkey = calls.pkey_alloc(0, 1)\n"
        "calls.pkey_mprotect(page, 4096, 3, key)\nctypes.string_at(page, 8)\n"
    )
    command = [sys.executable, "-m", "memprot", "run", "--json", str(document), str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGSEGV
    assert "which protection key 1 forbids to the thread" in done.stderr
    (fault,) = json.loads(document.read_text())["faults"]
    assert (fault["kind"], fault["key"], fault["access"], fault["recovered"]) == ("key", 1, "read", False)
