"""Where the kernel places new mappings in this process, and where the model would."""

import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from memprot import PAGE_SIZE, ProtectionError, calls
from memprot.flags import MapFlag
from memprot.model import AddressSpace, Mapping
from memprot.model.bits import VM_GROWSDOWN

PRIVATE = int(MapFlag.PRIVATE | MapFlag.ANONYMOUS)
FLAGS = (
    PRIVATE,
    PRIVATE,
    PRIVATE | MapFlag.GROWSDOWN,
    PRIVATE | MapFlag.STACK,
    int(MapFlag.SHARED | MapFlag.ANONYMOUS),
)
# Not from 2 MiB on: what is aligned for huge pages has changed from one kernel to the next.
LENGTHS = tuple(count * PAGE_SIZE for count in (1, 1, 2, 7, 60, 256, 300))
# Memory of the interpreter that comes or goes between looking and asking is no disagreement.
TRIES = 4

Held = list[tuple[int, int, int]]


def lines() -> list[tuple[int, int, str]]:
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, stop = (int(part, 16) for part in line.split()[0].split("-"))
        found.append((start, stop, line))
    return found


def loader_end() -> int:
    """Where the kernel begins to place: it placed the loader first."""
    if resource.getrlimit(resource.RLIMIT_STACK)[0] == resource.RLIM_INFINITY:
        pytest.skip("without a limit for the stack the kernel places from the bottom")
    loader = Path("/proc/self/exe").resolve()
    ends = [stop for _, stop, line in lines() if "/ld-" in line and str(loader) not in line]
    if not ends:
        pytest.skip("no loader is mapped that tells where the kernel begins to place")
    return max(ends)


def this_process(base: int, held: Held) -> AddressSpace:
    space = AddressSpace(mmap_min_addr=0, mmap_base=base)
    growing = [start for start, _, flags in held if flags & MapFlag.GROWSDOWN]
    for start, stop, line in lines():
        grows = line.endswith("[stack]") or any(start <= address < stop for address in growing)
        space._memory.mappings.insert(Mapping(start, stop, VM_GROWSDOWN if grows else 0, 0))
    return space


def agrees(base: int, held: Held, hint: int, length: int, flags: int) -> bool:
    expected = this_process(base, held).mmap(hint, length, 3, flags)
    placed = calls.mmap(hint, length, 3, flags)
    held.append((placed, length, flags))
    return placed == expected


@pytest.fixture
def held() -> Iterator[Held]:
    mapped: Held = []
    yield mapped
    for start, length, _ in mapped:
        calls.munmap(start, length)


def test_the_kernel_places_where_the_model_does(held: Held) -> None:
    dice = random.Random(5)
    base = loader_end()
    for _ in range(300):
        if held and dice.random() < 0.4:
            start, length, _ = held.pop(dice.randrange(len(held)))
            calls.munmap(start, length)
            continue
        length, flags = dice.choice(LENGTHS), int(dice.choice(FLAGS))
        hint = 0
        if held and dice.random() < 0.4:
            start, size, _ = dice.choice(held)
            hint = start + dice.choice((-1, 0, 1, size, size + PAGE_SIZE, -length, -length - PAGE_SIZE))
        assert any(agrees(base, held, hint, length, flags) for _ in range(TRIES)), (
            f"mmap({hint:#x}, {length:#x}, 3, {flags:#x}) went to {held[-1][0]:#x}"
        )


def test_an_address_too_high_or_too_low_is_refused_alike() -> None:
    space = AddressSpace()
    for address, flags in ((1 << 47, PRIVATE | MapFlag.FIXED), ((1 << 47) - PAGE_SIZE, PRIVATE | MapFlag.FIXED)):
        with pytest.raises(ProtectionError) as ours:
            space.mmap(address, PAGE_SIZE, 3, flags)
        with pytest.raises(ProtectionError) as theirs:
            calls.mmap(address, PAGE_SIZE, 3, flags)
        assert ours.value.errno == theirs.value.errno
