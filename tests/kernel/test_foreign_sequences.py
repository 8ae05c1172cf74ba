"""Random sequences of protections, accesses and ends of scopes on memory of every kind.

The kernel says what is blocked. A model of the bytes says what they must be.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pages import PAGES, SIZE, address_of, protections

from memprot import PAGE_SIZE, AddressSpace, FaultError, Region, catch_faults, protect, protected

pytest.importorskip("numpy")
from foreign import KINDS

PROTS = ["r--", "---", "rw-", "r-x"]
ranges = st.tuples(st.integers(0, PAGES - 1), st.integers(1, PAGES)).map(lambda pair: (pair[0], min(PAGES, sum(pair))))
places = st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE)).map(lambda pair: (pair[0], min(SIZE, sum(pair))))


class Sequences(RuleBasedStateMachine):
    misbehave: ModuleType

    def __init__(self) -> None:
        super().__init__()
        self.scopes: list[Any] = []
        self.catching: Any = None  # while what a thread without Python has met waits for this scope's end
        self.caught = 0

    @initialize(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 255))
    def make(self, kind: str, seed: int) -> None:
        self.memory = KINDS[kind]()
        self.start = address_of(self.memory)
        self.model = bytearray((seed + i * 7) % 251 for i in range(SIZE))
        ctypes.memmove(self.start, bytes(self.model), SIZE)
        self.region = self.memory if isinstance(self.memory, Region) else None

    def part(self, pages: tuple[int, int]) -> memoryview:
        return memoryview(self.memory).cast("B")[pages[0] * PAGE_SIZE : pages[1] * PAGE_SIZE]

    @rule(pages=ranges, prot=st.sampled_from(PROTS))
    def enter(self, pages: tuple[int, int], prot: str) -> None:
        scope = protected(self.part(pages), prot)
        scope.__enter__()
        self.scopes.append(scope)

    @precondition(lambda self: self.scopes)
    @rule(which=st.integers(0, 100))
    def leave(self, which: int) -> None:
        self.scopes.pop(which % len(self.scopes)).__exit__(None, None, None)

    @rule(pages=ranges, prot=st.sampled_from(PROTS))
    def change(self, pages: tuple[int, int], prot: str) -> None:
        protect(self.part(pages), prot)

    @precondition(lambda self: not self.caught)
    @rule(places=st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=4))
    def write_without_python(self, places: list[int]) -> None:
        """Pages stay open until the scope ends; protections may begin and end meanwhile."""
        if self.catching is None:
            self.catching = catch_faults().__enter__()
        blocked = self.pages_without("w")  # asked before any page is open
        for place in places:
            if place // PAGE_SIZE in blocked:
                self.misbehave.write_from_c_thread(self.start + place, (self.model[place] + 1) % 256)
                self.caught += 1

    @precondition(lambda self: self.catching is not None)
    @rule()
    def end_catching(self) -> None:
        scope, self.catching = self.catching, None
        expected, self.caught = self.caught > 0, 0
        try:
            scope.__exit__(None, None, None)
        except FaultError as fault:
            assert expected, fault
            assert (fault.access, fault.region) == ("write", self.region)
        else:
            assert not expected

    def pages_without(self, letter: str) -> list[int]:
        return [page for page, prot in enumerate(protections(self.memory)) if letter not in prot]

    @precondition(lambda self: not self.caught)
    @rule(
        place=places,
        way=st.sampled_from(["set", "stosb", "forwards", "backwards", "slice"]),
        gil=st.booleans(),
        where=st.sampled_from(["here", "here", "thread", "child"]),
    )
    def write(self, place: tuple[int, int], way: str, gil: bool, where: str) -> None:
        low, high = place
        value = (self.model[low] + 1) % 256
        data = bytes([value]) * (high - low)
        source = (ctypes.c_char * len(data)).from_buffer_copy(data)
        blocked = self.pages_without("w")
        touched = [page for page in range(low // PAGE_SIZE, (high - 1) // PAGE_SIZE + 1) if page in blocked]
        backwards = way == "backwards"
        to, size = self.start + low, high - low

        def do() -> None:
            if way == "set":
                self.misbehave.set(to, value, size, gil=gil)
            elif way == "stosb":
                self.misbehave.stosb(to, value, size, gil=gil)
            elif way == "slice":
                ctypes.memmove(to, source, size)
            else:
                copy = self.misbehave.move_backwards if backwards else self.misbehave.move_forwards
                copy(to, ctypes.addressof(source), size, gil=gil)

        changed = bytearray(self.model)
        for byte in range(low, high):
            if byte // PAGE_SIZE not in blocked:
                changed[byte] = value
        if where == "child":
            assert self.child_raises(do) == bool(touched)
            self.model = changed if self.is_shared() else self.model
            return
        self.model = changed
        fault = self.run(do, where)
        if not touched:
            assert fault is None, fault
            return
        assert fault is not None
        assert (fault.access, fault.cause, fault.region) == ("write", "protection", self.region)
        assert fault.address is not None
        if way == "slice" or way == "set":  # the C library begins where it likes
            assert (fault.address - self.start) // PAGE_SIZE in touched
            assert to <= fault.address < to + size
        elif backwards:
            assert fault.address == self.start + min(high, (touched[-1] + 1) * PAGE_SIZE) - 1
        else:
            assert fault.address == self.start + max(low, touched[0] * PAGE_SIZE)

    def is_shared(self) -> bool:
        mapping = AddressSpace().find(self.start)
        assert mapping is not None
        return mapping.shared

    @precondition(lambda self: not self.caught)
    @rule(place=places, gil=st.booleans(), where=st.sampled_from(["here", "thread"]))
    def read(self, place: tuple[int, int], gil: bool, where: str) -> None:
        low, high = place
        blocked = self.pages_without("r")
        touched = [page for page in range(low // PAGE_SIZE, (high - 1) // PAGE_SIZE + 1) if page in blocked]
        into = (ctypes.c_char * (high - low))()
        fault = self.run(
            lambda: self.misbehave.move_forwards(ctypes.addressof(into), self.start + low, high - low, gil=gil), where
        )
        if touched:
            assert fault is not None
            assert (fault.access, fault.address) == ("read", self.start + max(low, touched[0] * PAGE_SIZE))
        else:
            assert fault is None
        expected = bytes(0 if byte // PAGE_SIZE in blocked else self.model[byte] for byte in range(low, high))
        assert bytes(into) == expected

    def run(self, do: Callable[[], object], where: str) -> FaultError | None:
        found: list[FaultError] = []

        def caught() -> None:
            try:
                with catch_faults():
                    do()
            except FaultError as fault:
                found.append(fault)

        before = protections(self.memory)
        if where == "thread":
            thread = threading.Thread(target=caught)
            thread.start()
            thread.join()
        else:
            caught()
        assert protections(self.memory) == before
        return found[0] if found else None

    def child_raises(self, do: Callable[[], object]) -> bool:
        child = os.fork()
        if child == 0:
            status = 2
            try:
                status = int(self.run(do, "here") is not None)
            finally:
                os._exit(status)
        status = os.waitpid(child, 0)[1]
        assert status in (0, 1 << 8)
        return status != 0

    @invariant()
    def the_bytes_are_those_of_the_model(self) -> None:
        if not hasattr(self, "memory") or self.caught:
            return
        # Read as a debugger reads, whatever the protection.
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            assert os.pread(memory.fileno(), SIZE, self.start) == self.model

    def teardown(self) -> None:
        if self.catching is not None:
            self.end_catching()
        for scope in reversed(self.scopes):
            scope.__exit__(None, None, None)
        if hasattr(self, "memory"):
            protect(self.part((0, PAGES)), "rw-")
            assert protections(self.memory) == ["rw-"] * PAGES
            assert ctypes.string_at(self.start, SIZE) == self.model


def test_blocked_accesses_leave_nothing_in_any_order(misbehave: ModuleType, fuzzing: bool) -> None:
    Sequences.misbehave = misbehave
    run_state_machine_as_test(
        Sequences,
        settings=settings(
            max_examples=1000 if fuzzing else 25,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
