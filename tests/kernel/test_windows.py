"""An access that goes on over many pages is let through in growing windows, forwards and backwards."""

import ctypes
import functools
import mmap
import os
import subprocess
import sys
from types import ModuleType

import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults, guarded

GIL = pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
START = 3 * PAGE_SIZE + 123
LENGTH = 41 * PAGE_SIZE + 77
SOURCE = ctypes.create_string_buffer(b"\xee" * LENGTH, LENGTH)

WRITES = {
    "set": lambda misbehave, to, gil: misbehave.set(to, 0xEE, LENGTH, gil=gil),
    "stosb": lambda misbehave, to, gil: misbehave.stosb(to, 0xEE, LENGTH, gil=gil),
    "move": lambda misbehave, to, gil: misbehave.move(to, ctypes.addressof(SOURCE), LENGTH, gil=gil),
    "movsb": lambda misbehave, to, gil: misbehave.movsb(to, ctypes.addressof(SOURCE), LENGTH, gil=gil),
    "forwards": lambda misbehave, to, gil: misbehave.move_forwards(to, ctypes.addressof(SOURCE), LENGTH, gil=gil),
    "backwards": lambda misbehave, to, gil: misbehave.move_backwards(to, ctypes.addressof(SOURCE), LENGTH, gil=gil),
    "bytes": lambda misbehave, to, gil: misbehave.write_bytes(to, SOURCE.raw, gil=gil),
}
# The C library's functions may write the end first; the others have one direction.
FIRST_BYTE = {"stosb": 0, "movsb": 0, "forwards": 0, "bytes": 0, "backwards": LENGTH - 1}


@GIL
@pytest.mark.parametrize("how", WRITES)
def test_a_write_over_many_pages_is_taken_back(misbehave: ModuleType, blocked: Region, how: str, gil: bool) -> None:
    for _ in range(3):
        with catch_faults() as scope:
            with pytest.raises(FaultError) as caught:
                WRITES[how](misbehave, blocked.address + START, gil)
            fault = caught.value
            assert fault.access == "write"
            if how in FIRST_BYTE:
                assert fault.offset == START + FIRST_BYTE[how]
                assert fault.others == ()
        assert scope.faults == (fault,)


@GIL
def test_a_read_over_many_pages_sees_zeros_and_is_raised(misbehave: ModuleType, shared: bool, gil: bool) -> None:
    target = ctypes.create_string_buffer(b"\xff" * LENGTH, LENGTH)
    with Region(64 * PAGE_SIZE, shared=shared) as region:
        region[:] = b"\x55" * region.size
        region.protect("---")
        with pytest.raises(FaultError) as caught, catch_faults():
            misbehave.move_forwards(ctypes.addressof(target), region.address + START, LENGTH, gil=gil)
        assert caught.value.access == "read"
        assert caught.value.offset == START
        assert caught.value.others == ()
        assert target.raw == bytes(LENGTH)
        region.protect("r--")
        assert region.read() == b"\x55" * region.size


def test_a_move_within_one_region_backwards_over_itself(misbehave: ModuleType, blocked: Region) -> None:
    with pytest.raises(FaultError), catch_faults():
        misbehave.move(blocked.address + 5000, blocked.address, 40 * PAGE_SIZE)
    with pytest.raises(FaultError), catch_faults():
        misbehave.move(blocked.address, blocked.address + 5000, 40 * PAGE_SIZE)


def test_an_access_across_the_border_of_two_protections_is_taken_back(misbehave: ModuleType, shared: bool) -> None:
    with Region(6 * PAGE_SIZE, shared=shared) as region:
        region[:] = b"\x33" * region.size
        region.protect("r--", 2 * PAGE_SIZE, 3 * PAGE_SIZE)
        region.protect("---", 3 * PAGE_SIZE, 4 * PAGE_SIZE)
        with pytest.raises(FaultError) as caught, catch_faults():
            misbehave.stosb(region.address, 0xEE, region.size)
        faults = [caught.value, *caught.value.others]
        assert faults[0].offset == 2 * PAGE_SIZE
        region.protect("r--")
        blocked = b"\x33" * 2 * PAGE_SIZE
        assert region.read() == b"\xee" * 2 * PAGE_SIZE + blocked + b"\xee" * 2 * PAGE_SIZE


def test_a_word_across_the_border_of_two_pages_is_taken_back(misbehave: ModuleType, blocked: Region) -> None:
    for gil in (True, False):
        with pytest.raises(FaultError) as caught, catch_faults():
            misbehave.write64(blocked.address + PAGE_SIZE - 3, 2**64 - 1, gil=gil)
        assert caught.value.offset in (PAGE_SIZE - 3, PAGE_SIZE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_overrun_as_long_as_the_guard_is_one_fault(misbehave: ModuleType, side: str) -> None:
    block = guarded(1000, side)  # type: ignore[arg-type]
    block[:] = b"\x11" * 1000

    def write() -> None:
        if side == "right":
            misbehave.stosb(block.address + 1000, 0xEE, 65536)
        else:
            misbehave.move_backwards(block.address - LENGTH % 65536, ctypes.addressof(SOURCE), LENGTH % 65536)

    with pytest.raises(FaultError) as caught, catch_faults():
        write()
    assert caught.value.cause == "guard"
    assert caught.value.offset == (1000 if side == "right" else -1)
    assert caught.value.others == ()
    assert block[:] == b"\x11" * 1000


WATCHER = """
import mmap, sys
size = int(sys.argv[2])
seen = mmap.mmap(int(sys.argv[1]), size, prot=mmap.PROT_READ)
expected = seen[:]
print("ready", flush=True)
import select
looked = changed = 0
while True:
    looked += 1
    changed += seen[:] != expected
    if looked > 20 and select.select([sys.stdin], [], [], 0)[0]:
        break
print(changed, flush=True)
"""


def test_another_process_never_sees_a_blocked_write(misbehave: ModuleType, prot: str) -> None:
    fd = os.memfd_create("watched")
    os.ftruncate(fd, 64 * PAGE_SIZE)
    with open(fd, "r+b") as file, Region.from_file(file, "rw-") as region:
        before = bytes(range(256)) * (region.size // 256)
        region[:] = before
        region.protect(prot)
        with (
            mmap.mmap(fd, region.size, prot=mmap.PROT_READ) as alias,
            subprocess.Popen(
                [sys.executable, "-c", WATCHER, str(fd), str(region.size)],
                pass_fds=[fd],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as watcher,
        ):
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == "ready\n"
            raised = 0
            for round_ in range(100):
                with catch_faults():
                    try:
                        misbehave.set(region.address, round_, region.size)
                    except FaultError:
                        raised += 1
                    assert alias[:] == before
            assert watcher.communicate("\n")[0] == "0\n"
        assert raised == 100


def test_while_a_shared_page_is_open_the_file_keeps_its_bytes(misbehave: ModuleType) -> None:
    fd = os.memfd_create("beneath")
    os.ftruncate(fd, PAGE_SIZE)
    with open(fd, "r+b") as file, Region.from_file(file, "r--") as region:
        during = bytearray(b"?")
        look = functools.partial(os.preadv, fd, [during], 0)  # no Python in between: nothing is raised yet
        with pytest.raises(FaultError), catch_faults():
            misbehave.write_then_call(region.address, 7, look)
        assert during == b"\0"
        assert region[0] == 0


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the code is for x86-64")
def test_code_on_a_page_can_run_while_a_blocked_write_to_it_is_open(misbehave: ModuleType, shared: bool) -> None:
    with Region(PAGE_SIZE, shared=shared) as region:
        region[:6] = b"\xb8\x07\x00\x00\x00\xc3"  # mov $7, %eax; ret
        region.protect("r-x")
        results: list[int] = []
        run = functools.partial(misbehave.call, region.address)
        with catch_faults() as scope:
            with pytest.raises(FaultError):
                results.append(misbehave.write_then_call(region.address + 100, 1, run))
            assert run() == 7
        assert len(scope.faults) == 1
        assert region[100] == 0
