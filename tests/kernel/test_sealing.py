"""Sealed memory, and Regions that are locked, sealed and split."""

import mmap
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from child import REFUSED, lines
from pages import address_of, protections

from memprot import (
    PAGE_SIZE,
    FaultError,
    ProtectionError,
    Reason,
    Region,
    catch_faults,
    features,
    guarded,
    protect,
    protected,
    seal,
)

RunChild = Callable[..., "subprocess.CompletedProcess[str]"]

SEALED = (
    """
import ctypes, mmap, weakref
import memprot.calls
from memprot import *
from memprot._native import buffer_range

class Memory(mmap.mmap):
    pass
"""
    + REFUSED
)


needs_mseal = pytest.mark.skipif(not features.available("mseal"), reason="this kernel has no mseal")


def test_a_kernel_without_mseal_says_so() -> None:
    """Where there is one, a filter takes it away."""
    program = Path(__file__).parent.parent / "programs" / "under_seccomp.py"
    body = (
        "from memprot import *\nregion = Region(4096)\n"
        "try:\n    region.seal()\nexcept ProtectionError as error:\n"
        "    print(error.errno, error.reason.value, error.hint)\n"
        "region.protect('r--'); region.close()"
    )
    command = [sys.executable, str(program), "ENOSYS", "mseal", "python", "-c", body]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    (line,) = lines(done)
    assert line.startswith("38 not_supported Linux 6.10")


@needs_mseal
def test_sealed_memory_keeps_its_protection_and_its_place(run_child: RunChild) -> None:
    done = run_child(
        SEALED
        + """
memory = Memory(-1, 4 * PAGE_SIZE)
memory[0] = 7
protect(memory, "r--")
seal(memory)
start = buffer_range(memory)[0]
print(refused(lambda: protect(memory, "rw-")))
print(refused(lambda: protected(memory, "rw-").__enter__()))
print(refused(lambda: memprot.calls.munmap(start, PAGE_SIZE)))
print(memory[0], AddressSpace().find(start).prot)
seal(memory)
alive = weakref.ref(memory)
del memory
print(alive() is not None)
"""
    )
    assert lines(done) == ["(1, 'sealed')"] * 3 + ["7 r--", "True"]


@needs_mseal
def test_sealing_refuses_shared_pages_unless_told(run_child: RunChild) -> None:
    array = bytearray(5 * PAGE_SIZE)
    within_a_page = memoryview(array)[(1 - address_of(array)) % PAGE_SIZE :]
    with pytest.raises(ProtectionError, match="seal of .* sealed whole") as caught:
        seal(within_a_page)
    assert caught.value.reason is Reason.SHARED_PAGE
    done = run_child(
        SEALED
        + """
array = bytearray(5 * PAGE_SIZE)
seal(array, neighbours=True)
array[5] = 1
print(refused(lambda: protect(array, "r--", neighbours=True)))
"""
    )
    assert lines(done) == ["(1, 'sealed')"]


@needs_mseal
def test_a_sealed_region_can_be_closed_and_stays_mapped(run_child: RunChild) -> None:
    done = run_child(
        SEALED
        + """
for shared in (False, True):
    region = Region(3 * PAGE_SIZE, shared=shared)
    start = region.address
    region.protect("r--", 0, PAGE_SIZE)
    region.seal(0, PAGE_SIZE)
    print(refused(lambda: region.protect("rw-")), refused(lambda: region.protect("---", PAGE_SIZE)))
    region.protect("rw-", PAGE_SIZE)
    region[PAGE_SIZE] = 1
    region.close()
    region.close()
    print(region.closed, AddressSpace().find(start).prot)
    region = Region(PAGE_SIZE)
    seal(region)
    try:
        region.split(0)
    except ValueError as error:
        print("no split")
    start = region.address
    del region
    print(AddressSpace().find(start) is not None)
"""
    )
    assert lines(done) == ["(1, 'sealed') None", "True r--", "no split", "True"] * 2


@needs_mseal
def test_a_scope_whose_memory_was_sealed_inside_says_so_at_its_end(run_child: RunChild) -> None:
    done = run_child(
        SEALED
        + """
memory = Memory(-1, PAGE_SIZE)
def block():
    with protected(memory, "r--"):
        seal(memory)
print(refused(block), AddressSpace().find(buffer_range(memory)[0]).prot)
"""
    )
    assert lines(done) == ["(1, 'sealed') r--"]


# ---- Regions


def locked(region: Region) -> int:
    """How many kilobytes of its mappings are locked."""
    start, stop = region.extent
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head:
            low, high = (int(part, 16) for part in head.split("-"))
            inside = low < stop and high > start
        elif inside and line.startswith("Locked:"):
            total += int(line.split()[1])
    return total


@pytest.mark.skipif(os.geteuid() != 0, reason="locking may be limited")
def test_pages_are_locked_and_unlocked() -> None:
    with Region(4 * PAGE_SIZE + 10) as region:
        region.lock(PAGE_SIZE, 3 * PAGE_SIZE)
        assert locked(region) == 2 * PAGE_SIZE // 1024
        region.lock()
        region.lock(PAGE_SIZE, PAGE_SIZE)
        assert locked(region) == 5 * PAGE_SIZE // 1024
        region.unlock()
        assert locked(region) == 0
        for do in (region.lock, region.unlock, region.seal):
            with pytest.raises(ValueError, match="multiple"):
                do(5)
    for do in (region.lock, region.unlock, region.seal):
        with pytest.raises(ValueError, match="closed"):
            do()


def test_pages_that_permit_nothing_cannot_be_locked() -> None:
    with Region(PAGE_SIZE, "---") as region:
        with pytest.raises(ProtectionError) as caught:
            region.lock()
        assert caught.value.errno == 12
        region.unlock()


def test_a_region_is_split_where_it_lies(shared: bool) -> None:
    region = Region(3 * PAGE_SIZE + 100, shared=shared)
    region[:] = b"x" * region.size
    start = region.address
    region.protect("r--", PAGE_SIZE, 2 * PAGE_SIZE)
    low, high = region.split(2 * PAGE_SIZE)
    assert low is region
    assert (low.address, low.size, len(low)) == (start, 2 * PAGE_SIZE, 2 * PAGE_SIZE)
    assert (high.address, high.size) == (start + 2 * PAGE_SIZE, PAGE_SIZE + 100)
    assert protections_of(low) + protections_of(high) == ["rw-", "r--", "rw-", "rw-"]
    high.protect("---")
    with pytest.raises(FaultError) as caught:
        high[5]
    assert (caught.value.region, caught.value.offset) == (high, 5)
    low.protect("rw-")
    view = memoryview(low)
    low.protect("r--")
    with pytest.raises(FaultError) as caught, catch_faults():
        view[PAGE_SIZE + 1] = 0
    assert (caught.value.region, caught.value.offset) == (low, PAGE_SIZE + 1)
    view.release()
    low.close()
    high.protect("r--")
    assert high[:] == b"x" * high.size
    high.close()
    assert low.closed
    assert high.closed


def protections_of(region: Region) -> list[str]:
    return protections(region)


def test_a_region_is_split_only_where_both_parts_have_pages() -> None:
    region = Region(3 * PAGE_SIZE)
    for offset in (0, 3 * PAGE_SIZE, 5, -PAGE_SIZE, 4 * PAGE_SIZE):
        with pytest.raises(ValueError, match=r"offset|start|stop"):
            region.split(offset)
    with pytest.raises(TypeError):
        region.split(1.0)  # type: ignore[arg-type]
    view = memoryview(region)
    with pytest.raises(BufferError, match="in use"):
        region.split(PAGE_SIZE)
    view.release()
    with pytest.raises(ValueError, match="guarded"):
        guarded(3 * PAGE_SIZE).split(PAGE_SIZE)
    region.close()
    with pytest.raises(ValueError, match="closed"):
        region.split(PAGE_SIZE)


def test_the_parts_of_a_region_leave_nothing(shared: bool) -> None:
    before = os.listdir("/proc/self/fd")
    region = Region(8 * PAGE_SIZE, shared=shared)
    first, rest = region.split(2 * PAGE_SIZE)
    second, third = rest.split(4 * PAGE_SIZE)
    alive = weakref.ref(third)
    parts: list[Any] = [first, second, third]
    del region, first, rest, second, third
    parts.clear()
    assert alive() is None
    assert os.listdir("/proc/self/fd") == before


def test_protect_takes_a_region_apart_from_its_mapping() -> None:
    memory = mmap.mmap(-1, PAGE_SIZE)
    with Region(PAGE_SIZE) as region, protected(region, "r--"), protected(memory, "r--"):
        assert protections(region) == protections(memory) == ["r--"]
    protect(memory, "rw-")
    assert address_of(memory) % PAGE_SIZE == 0
