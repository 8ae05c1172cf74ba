"""Blocked accesses to memory that memprot did not allocate: raised, where they happened, and taken back."""

import ctypes
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from pages import PAGES, SIZE, address_of, protections

from memprot import PAGE_SIZE, AddressSpace, FaultError, catch_faults, protected

pytest.importorskip("numpy")
from foreign import KINDS

PATTERN = (bytes(range(1, 252)) * (SIZE // 251 + 1))[:SIZE]
Touch = Callable[[ModuleType, int, bool], object]

WRITES: dict[str, tuple[Touch, int, int]] = {
    # what is done, and the first and the last page whose content it would change
    "one byte": (lambda c, start, gil: c.write(start + 5000, 0, gil=gil), 5000, 1),
    "eight bytes across a border": (
        lambda c, start, gil: c.write64(start + PAGE_SIZE - 4, 0, gil=gil),
        PAGE_SIZE - 4,
        8,
    ),
    "everything": (lambda c, start, gil: c.set(start, 0, SIZE, gil=gil), 0, SIZE),
    "everything by one instruction": (lambda c, start, gil: c.stosb(start, 0, SIZE, gil=gil), 0, SIZE),
    "a copy forwards": (lambda c, start, gil: c.move_forwards(start + 9, start, 9000, gil=gil), 9, 9000),
    "a copy backwards": (lambda c, start, gil: c.move_backwards(start + 9, start, 9000, gil=gil), 9 + 9000 - 1, 1),
    "a few pages": (lambda c, start, gil: c.set(start + 4000, 0, 9000, gil=gil), 4000, 9000),
}


@pytest.fixture(params=KINDS)
def memory(request: pytest.FixtureRequest) -> Any:
    made = KINDS[request.param]()
    ctypes.memmove(address_of(made), PATTERN, SIZE)
    return made


def content(memory: Any) -> bytes:
    return ctypes.string_at(address_of(memory), SIZE)


def mappings(start: int) -> int:
    return sum(mapping.start < start + SIZE and mapping.stop > start for mapping in AddressSpace())


def in_a_thread(do: Callable[[], object]) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except FaultError as fault:
            raised.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
def test_a_blocked_write_is_raised_and_leaves_nothing(
    memory: Any, misbehave: ModuleType, gil: bool, thread: bool
) -> None:
    start = address_of(memory)
    for name, (touch, offset, _) in WRITES.items():
        for prot in ("r--", "---", "r-x"):
            if "copy" in name and prot == "---":
                continue  # it would read first
            with protected(memory, prot):
                before = mappings(start)

                def blocked(touch: Touch = touch) -> None:
                    with catch_faults():
                        touch(misbehave, start, gil)

                with pytest.raises(FaultError) as caught:
                    in_a_thread(blocked) if thread else blocked()
                fault = caught.value
                assert (fault.access, fault.cause, fault.address, fault.offset) == (
                    "write",
                    "protection",
                    start + offset,
                    offset,
                ), name
                assert mappings(start) <= before
                assert protections(memory) == [prot] * PAGES
            assert content(memory) == PATTERN, name
