"""The operations as the kernel does them, in a process of their own."""

import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from memprot import PAGE_SIZE, features
from tests.kernel.differential import arena
from tests.kernel.differential.arena import Answer, ArenaProcess, Request, arena_process
from tests.kernel.differential.files import Files, OpenFile
from tests.kernel.differential.operations import (
    ACCESSES,
    ARENA,
    FENCE_PAGES,
    HEAP_PAGE,
    WORLD_WITH_KEYS,
    WORLDS,
    Operation,
    World,
    at,
)

# x86-64; the program is compiled for nothing else.
SYSTEM_CALLS = {
    "mmap": 9,
    "mprotect": 10,
    "munmap": 11,
    "brk": 12,
    "mremap": 25,
    "madvise": 28,
    "truncate": 77,
    "personality": 135,
    "mlock": 149,
    "munlock": 150,
    "set_mdwe": 157,
    "pkey_mprotect": 329,
    "pkey_alloc": 330,
    "pkey_free": 331,
    "mlock2": 325,
    "mseal": 462,
}
PLACING = {"mmap", "mremap"}
SETRESUID, NOBODY = 117, 65534
# The model's name for a limit, its number, and what in /proc/PID/status counts what is held already.
RESOURCES = {
    "memlock": (resource.RLIMIT_MEMLOCK, None),
    "address_space": (resource.RLIMIT_AS, "VmSize"),
    "data": (resource.RLIMIT_DATA, "VmData"),
    "stack": (resource.RLIMIT_STACK, None),
}
CAP_IPC_LOCK = 14
PR_SET_MDWE = 65
A_DESCRIPTOR_THAT_IS_NOT_OPEN = 1000


class Outcome(NamedTuple):
    """What came of an operation: 0 or the errno, the result of a call that gives one, for each page touched the
    signal, its code and the protection key, and for each page looked at whether it is there; None for not known."""

    errno: int
    result: int = 0
    touches: tuple[tuple[int, int, int], ...] = ()
    pages: tuple[bool | None, ...] = ()


class Surroundings(NamedTuple):
    """What the model has to be told about the process."""

    mappings_left: int  # how many more the arena may have
    files: dict[str, OpenFile]
    limits: dict[str, int]  # by the model's name, in bytes, without what the process has outside the arena


class KernelSide:
    """Sequences of operations, each in a fresh copy of one process."""

    def __init__(self, process: ArenaProcess, files: Files) -> None:
        self._process = process
        self._files = files
        self._most = int(Path("/proc/sys/vm/max_map_count").read_text())
        self._window = (ARENA - FENCE_PAGES * PAGE_SIZE, ARENA)
        self.running = False

    def begin(self, world: World) -> Surroundings:
        """Start a sequence in a world: what the model has to know about it."""
        self._files.restore()
        self._window = (ARENA - FENCE_PAGES * PAGE_SIZE, at(world.pages + FENCE_PAGES))
        self.running = True
        start = Request(arena.START, 0, (ARENA, at(world.pages), int(world.threads > 1)))
        everything = Request(arena.MAPS, 0, (0, (1 << 64) - 1))
        started, maps = self._process.ask([start, everything])
        left = self._mappings_left(maps)
        if world.heap:
            (moved,) = self._process.ask([Request(arena.HEAP, 0, (at(HEAP_PAGE),))])
            assert moved.errno == 0, os.strerror(moved.errno)
        if world.room is not None:
            self._process.ask([Request(arena.FILL, 0, (left - world.room,))])
            left = world.room
        return Surroundings(left, self._files.by_name, self._limit(started.result, world))

    def _limit(self, pid: int, world: World) -> dict[str, int]:
        status = Path(f"/proc/{pid}/status").read_text()
        limits = {} if locks_without_limit(status) else {"memlock": resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]}
        for name, pages in world.limits:
            number, held = RESOURCES[name]
            limits[name] = pages * PAGE_SIZE
            limit = limits[name] + (kilobytes(status, held) << 10 if held else 0)
            resource.prlimit(pid, number, (limit, limit))
        if "memlock" in dict(world.limits):
            # Whoever may lock without limit must give that up; only then, for others may not be limited from here.
            self._process.ask([Request(arena.SYSTEM_CALL, SETRESUID, (NOBODY, NOBODY, NOBODY))])
        return limits

    def _mappings_left(self, maps: Answer) -> int:
        lines = maps.payload.decode().splitlines()
        return self._most - sum("[vsyscall]" not in line for line in lines)

    def perform(self, operations: list[Operation], world: World) -> list[tuple[Outcome, str]]:
        """What came of each, and the arena's lines of /proc/self/maps after it."""
        maps = Request(arena.MAPS, 0, self._window)
        requests = [request for operation in operations for request in (self._request(operation, world), maps)]
        answers = self._process.ask(requests)
        return [
            (outcome(operation, done), seen.payload.decode())
            for operation, done, seen in zip(operations, answers[::2], answers[1::2], strict=True)
        ]

    def _request(self, operation: Operation, world: World) -> Request:
        name, arguments = operation
        if name == "access":
            address, access, thread = arguments
            return Request(arena.PROBE, 0, (number(address), 1, ACCESSES.index(str(access)), number(thread)))
        if name == "probe":
            access, thread = arguments
            return Request(arena.PROBE, 0, (ARENA, world.pages, ACCESSES.index(str(access)), number(thread)))
        if name == "pages":
            return Request(arena.PAGES, 0, (ARENA, world.pages))
        if name == "rights":
            return Request(arena.RIGHTS, 0, tuple(map(number, arguments)))
        values = [self._value(argument) for argument in arguments]
        if name == "set_mdwe":
            values = [PR_SET_MDWE, *values]
        kind = arena.PLACING_CALL if name in PLACING else arena.SYSTEM_CALL
        return Request(kind, SYSTEM_CALLS[name], tuple(values))

    def _value(self, argument: int | str) -> int:
        if isinstance(argument, int):
            return argument
        file = self._files.by_name.get(argument)
        return A_DESCRIPTOR_THAT_IS_NOT_OPEN if file is None else file.descriptor

    def end(self) -> None:
        """End the sequence."""
        if self.running:
            self.running = False
            self._process.ask([Request(arena.FINISH)])


def worlds_here() -> tuple[World, ...]:
    """The worlds that this machine can have."""
    return (*WORLDS, WORLD_WITH_KEYS) if features.available("protection_keys") else WORLDS


def locks_without_limit(status: str) -> bool:
    """Whether a process may lock what it likes, by its /proc/PID/status."""
    found = re.search(r"^CapEff:\s+(\w+)", status, re.MULTILINE)
    assert found is not None
    return bool(int(found[1], 16) >> CAP_IPC_LOCK & 1)


def kilobytes(status: str, name: str) -> int:
    """One figure of /proc/PID/status."""
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1])


def number(argument: int | str) -> int:
    """An argument that must be a number."""
    assert isinstance(argument, int)
    return argument


def outcome(operation: Operation, answer: Answer) -> Outcome:
    """An answer of the process, understood."""
    if operation.name in ("access", "probe"):
        data = answer.payload
        touches = tuple((data[i], data[i + 1], data[i + 2]) for i in range(0, len(data), 4))
        return Outcome(0, 0, touches)
    if operation.name == "pages":
        return Outcome(0, pages=tuple(map(bool, answer.payload)))
    if answer.errno:
        return Outcome(answer.errno)
    return Outcome(0, answer.result)


@contextmanager
def kernel_side() -> Iterator[KernelSide]:
    """A process that sequences can be started in, for the duration of a block."""
    files = Files()
    try:
        with arena_process(files.descriptors) as process:
            yield KernelSide(process, files)
    finally:
        files.close()
