"""Faults on protected memory: recovered inside a scope of catch_faults, wherever the memory comes from."""

import ctypes
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pages import PAGES, SIZE, address_of, another_process_sees, private_pages, protections, shared_pages

from memprot import PAGE_SIZE, AddressSpace, FaultError, Region, catch_faults, features, protect, protected

PATTERN = bytes(range(1, 252)) * (SIZE // 251 + 1)
RunChild = Callable[..., "subprocess.CompletedProcess[str]"]


def file_pages(shared: bool, folder: Path) -> mmap.mmap:
    path = folder / "file"
    path.write_bytes(bytes(SIZE))
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), SIZE, flags=mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE)


@pytest.fixture(params=["private", "shared", "private file", "shared file"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> mmap.mmap:
    makers: dict[str, Callable[[], mmap.mmap]] = {
        "private": private_pages,
        "shared": shared_pages,
        "private file": lambda: file_pages(False, tmp_path),
        "shared file": lambda: file_pages(True, tmp_path),
    }
    made = makers[request.param]()
    made[:] = PATTERN[:SIZE]
    return made


@pytest.mark.parametrize("prot", ["r--", "---", "r-x"])
def test_a_blocked_write_is_raised_and_taken_back(memory: mmap.mmap, prot: str) -> None:
    start = address_of(memory)
    with protected(memory, prot):
        with pytest.raises(FaultError) as caught, catch_faults():
            ctypes.memset(start + 100, 7, 5000)
        fault = caught.value
        assert (fault.address, fault.offset, fault.access) == (start + 100, 100, "write")
        assert (fault.cause, fault.region) == ("protection", None)
        assert "protection forbids it" in str(fault)
        assert protections(memory) == [prot] * PAGES
    assert protections(memory) == ["rw-"] * PAGES
    assert memory[:] == PATTERN[:SIZE]


def test_a_blocked_read_sees_zeros_and_is_raised(memory: mmap.mmap) -> None:
    seen = (ctypes.c_char * 8)()
    with protected(memory, "---"):
        with pytest.raises(FaultError) as caught, catch_faults():
            ctypes.memmove(seen, address_of(memory) + 2 * PAGE_SIZE, 8)
        assert (caught.value.access, caught.value.offset) == ("read", 2 * PAGE_SIZE)
    assert bytes(seen) == bytes(8)
    assert memory[:] == PATTERN[:SIZE]


def test_a_long_write_is_one_fault(memory: mmap.mmap) -> None:
    with protected(memory, "r--"):
        with pytest.raises(FaultError) as caught, catch_faults():
            ctypes.memset(address_of(memory), 0, SIZE)
        assert caught.value.others == ()
    assert memory[:] == PATTERN[:SIZE]


def test_the_memory_is_one_mapping_again_afterwards(memory: mmap.mmap) -> None:
    start = address_of(memory)
    for _ in range(3):
        with protected(memory, "r--"), pytest.raises(FaultError), catch_faults():
            ctypes.memset(start + 2 * PAGE_SIZE, 1, PAGE_SIZE)
    mapping = AddressSpace().find(start)
    assert mapping is not None
    if mapping.shared or mapping.inode == 0:
        assert mapping.stop >= start + SIZE
    memory.close()


def test_other_processes_never_see_a_blocked_write_to_shared_memory() -> None:
    memory = shared_pages()
    memory[:] = PATTERN[:SIZE]
    with another_process_sees(lambda: memory[:], PATTERN[:SIZE]):
        for _ in range(300):
            with protected(memory, "r--"), pytest.raises(FaultError), catch_faults():
                ctypes.memset(address_of(memory), 0, SIZE)


def test_memory_given_to_protect_is_recovered_until_it_is_given_back() -> None:
    memory = private_pages()
    protect(memory, "r--")
    with pytest.raises(FaultError) as caught, catch_faults():
        memory[5] = 1
    assert caught.value.offset == 5
    protect(memory, "rw-")
    memory[5] = 1
    assert memory[:6] == bytes(5) + b"\1"


def test_nested_scopes_are_recovered_by_the_protection_in_force() -> None:
    memory = private_pages()
    memory[:] = PATTERN[:SIZE]
    inner = memoryview(memory)[PAGE_SIZE : 3 * PAGE_SIZE]
    with protected(memory, "r--"):
        with protected(inner, "---"):
            with pytest.raises(FaultError) as caught, catch_faults():
                inner[10]
            assert (caught.value.access, caught.value.offset) == ("read", PAGE_SIZE + 10)
        with protected(inner, "rw-"), catch_faults():
            ctypes.memset(address_of(inner), 9, 1)
        with pytest.raises(FaultError), catch_faults():
            ctypes.memset(address_of(inner), 8, 1)
    assert memory[PAGE_SIZE] == 9
    memory[PAGE_SIZE] = PATTERN[PAGE_SIZE]
    assert memory[:] == PATTERN[:SIZE]


def test_a_fault_left_pending_at_the_scopes_end_is_raised_and_undone() -> None:
    memory = private_pages()
    with pytest.raises(FaultError) as caught, catch_faults():
        with protected(memory, "r--"):
            ctypes.memset(address_of(memory) + 7, 1, 1)
        assert memory[7] == 0
    assert caught.value.offset == 7
    assert protections(memory) == ["rw-"] * PAGES
    assert memory[7] == 0


def test_a_store_as_the_blocks_last_act_does_not_keep_the_scope_from_ending() -> None:
    """The delivery is pending when the scope is left: nothing of Python may run before the pages are put back."""
    memory = private_pages()
    region = Region(SIZE)
    view = memoryview(region)
    for scope, target in ((protected(memory, "r--"), memory), (region.protected("r--"), view)):
        with pytest.raises(FaultError), catch_faults(), scope:
            target[9] = 1
        assert protections(target) == ["rw-"] * PAGES
        assert target[9] == 0


def test_a_view_of_a_region_is_the_regions() -> None:
    region = Region(SIZE)
    view = memoryview(region)
    with protected(view[PAGE_SIZE:], "r--"):
        assert region.prot is None
        with pytest.raises(FaultError) as caught, catch_faults():
            view[PAGE_SIZE + 3] = 1
        assert (caught.value.region, caught.value.offset) == (region, PAGE_SIZE + 3)
    assert str(region.prot) == "rw-"


def test_only_pages_of_raw_data_are_recovered() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(40 << 20, "u1")  # so large that malloc maps it by itself, and no other object is on its pages
    with protected(array, "r--", neighbours=True):
        with pytest.raises(FaultError) as caught, catch_faults():
            array[5 * PAGE_SIZE] = 2
        assert caught.value.offset == 5 * PAGE_SIZE
    assert array[5 * PAGE_SIZE] == 0


@pytest.mark.parametrize(
    "kind", ["M8[s]", [("when", "M8[s]"), ("Object", "f8")], [("a:b", "f8"), ("O", "i8")]], ids=str
)
def test_arrays_of_every_type_without_objects_are_recovered(kind: Any) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.frombuffer(private_pages(), "u1")[: PAGE_SIZE * 2].view(kind)
    with protected(array, "r--"):
        with pytest.raises(FaultError) as caught, catch_faults():
            array.view("u1")[9] = 1
        assert caught.value.offset == 9
    assert not array.view("u1").any()


def test_an_array_between_guards_is_recovered_too() -> None:
    pytest.importorskip("numpy")
    program = """
import numpy, memprot.guard
from memprot import *
memprot.guard.enable("numpy")
array = numpy.ones(8 * PAGE_SIZE, "u1")
with protected(array, "r--"):
    try:
        with catch_faults():
            array[100] = 2
    except FaultError as fault:
        print(fault.offset, fault.cause)
    try:
        with catch_faults():
            import ctypes
            ctypes.memset(array.ctypes.data + array.nbytes, 1, 1)
    except FaultError as fault:
        print(fault.offset - array.nbytes, fault.cause)
array[100] = 2
print(array[100])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("100 protection\n0 guard\n2\n", "")


DYING = {
    "outside every scope": """
memory = mmap.mmap(-1, 4096)
protect(memory, "r--")
memory[5] = 1
""",
    "neighbours": """
array = numpy.zeros(40 << 20, "u1")
with protected(array, "r--", neighbours=True), catch_faults():
    array[0] = 2
""",
    "references to objects": """
objects = (ctypes.py_object * 1024).from_buffer(mmap.mmap(-1, 8192))
with protected(objects, "r--"), catch_faults():
    objects[5] = None
""",
    "sealed": """
memory = mmap.mmap(-1, 4096)
protect(memory, "r--")
seal(memory)
with catch_faults():
    memory[5] = 1
""",
}


@pytest.mark.parametrize("name", DYING)
def test_what_cannot_be_recovered_is_reported_and_dies(run_child: RunChild, name: str) -> None:
    pytest.importorskip("numpy")
    if name == "sealed" and not features.available("mseal"):
        pytest.skip("this kernel has no mseal")
    done = run_child(f"import ctypes, mmap, numpy\nfrom memprot import *\n{DYING[name]}\nprint('alive')")
    assert done.returncode == -11
    assert done.stdout == ""
    assert "write" in done.stderr
    assert "0x" in done.stderr


def test_a_forked_child_recovers_by_itself() -> None:
    for memory in (private_pages(), shared_pages()):
        with protected(memory, "r--"):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    try:
                        with catch_faults():
                            ctypes.memset(address_of(memory) + 3, 1, 1)
                    except FaultError as fault:
                        status = not (fault.offset == 3 and memory[3] == 0)
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
            with pytest.raises(FaultError), catch_faults():
                ctypes.memset(address_of(memory) + 3, 1, 1)
        assert memory[3] == 0


def test_threads_fault_while_others_protect_and_end() -> None:
    memory = private_pages()
    memory[:] = PATTERN[:SIZE]
    stop = threading.Event()
    start = address_of(memory)
    unexpected: list[Any] = []

    def writer() -> None:
        while not stop.is_set():
            try:
                with catch_faults():
                    ctypes.memset(start + PAGE_SIZE, 1, 100)
            except FaultError as fault:
                if not start <= (fault.address or 0) < start + SIZE:
                    unexpected.append(fault)

    with protected(memory, "r--"):
        threads = [threading.Thread(target=writer) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(200):
            with protected(memoryview(memory)[PAGE_SIZE : 2 * PAGE_SIZE], "---"):
                pass
        stop.set()
        for thread in threads:
            thread.join()
    assert unexpected == []
    assert memory[:] == PATTERN[:SIZE]
