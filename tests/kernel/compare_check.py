"""A program: asks `check` about random changes of protection, makes them, and compares; ends with the number compared.

usage: compare_check.py SEED COUNT [CONDITION...]

Conditions: mdwe, personality (READ_IMPLIES_EXEC), data (RLIMIT_DATA), limit (of mappings), sealed (some pages are),
pid (another process holds the memory and makes the changes).
"""

import ctypes
import os
import random
import resource
import sys
import tempfile
from collections import Counter
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from memprot import PAGE_SIZE, Prot, ProtectionError, Reason, Verdict, calls, check
from memprot.calls import MapFlag
from memprot.flags import DenyWriteExecute

Outcome = tuple[int | None, Reason | None, int | None, int | None]

PAGES = 24
READ_IMPLIES_EXEC = 0x0400000
PRIVATE = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED

kept: list[bytes] = []


class Arena:
    """Pages of every kind, and holes, one beside the other."""

    def __init__(self, chance: random.Random, seal: bool) -> None:
        self.chance = chance
        self.seal = seal
        # Far from where the kernel puts what is mapped without an address: nothing else may get into a hole.
        flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED_NOREPLACE
        self.start = calls.mmap(0x2000_0000_0000, PAGES * PAGE_SIZE, 0, flags)
        file, path = tempfile.mkstemp()
        os.ftruncate(file, PAGES * PAGE_SIZE)
        self.read_only = os.open(path, os.O_RDONLY)
        os.unlink(path)
        self.writable = file
        self.fill()

    def fill(self) -> None:
        page = 0
        while page < PAGES:
            count = min(self.chance.randint(1, 4), PAGES - page)
            self.place(self.start + page * PAGE_SIZE, count * PAGE_SIZE)
            page += count

    def place(self, address: int, size: int) -> None:
        prot = self.chance.choice([0, 1, 3, 5, 7])
        kind = self.chance.randrange(7 if self.seal else 6)
        try:
            if kind == 0:
                calls.munmap(address, size)
            elif kind == 1:
                calls.mmap(address, size, 1, MapFlag.SHARED | MapFlag.FIXED, self.read_only, 0)
            elif kind == 2:
                calls.mmap(address, size, prot & 3, MapFlag.SHARED | MapFlag.FIXED, self.writable, 0)
            elif kind == 3:
                calls.mmap(address, size, 1, MapFlag.PRIVATE | MapFlag.FIXED, self.read_only, 0)
            elif kind == 4:
                calls.mmap(address, size, prot & 3, PRIVATE | MapFlag.GROWSDOWN)
            else:
                calls.mmap(address, size, prot & 3, PRIVATE)
                if prot & 2:
                    ctypes.memset(address, 1, size)
                if kind == 6 and self.chance.random() < 0.2:
                    calls.mseal(address, size)
        except ProtectionError as error:
            # Sealed pages stay, and the limits of some conditions leave no room for others.
            known = (Reason.SEALED, Reason.DATA_LIMIT, Reason.MAPPING_LIMIT, Reason.DENY_WRITE_EXECUTE)
            assert error.reason in known, error

    def change(self, start: int, length: int, prot: int) -> "Outcome":
        try:
            calls.mprotect(start, length, prot)
        except ProtectionError as error:
            return error.errno, error.reason, error.start, error.stop
        return None, None, None, None

    def request(self) -> tuple[int, int, int]:
        chance = self.chance
        start = self.start + chance.randrange(-1, PAGES) * PAGE_SIZE
        length = chance.randint(1, 8) * PAGE_SIZE - chance.choice([0, 0, 1, 100])
        prot = chance.choice([0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9])
        if chance.random() < 0.1:
            prot |= Prot.GROWSDOWN
        if chance.random() < 0.02:
            prot |= chance.choice([Prot.GROWSUP, 0x10000, 1 << 40, 1 << 63])
        if chance.random() < 0.02:
            start += chance.choice([1, 8, PAGE_SIZE - 1])
        if chance.random() < 0.02:
            length = chance.choice([0, 2**64 - 1, -1, 2**63, 2**64 - start, 1 << 47])
        return start, length, prot


def fill_to_the_limit(spare: int) -> None:
    """Leave room for that many more mappings."""
    with open("/proc/sys/vm/max_map_count") as file:
        limit = int(file.read())
    base = calls.mmap(0, 2 * limit * PAGE_SIZE, 0, MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.NORESERVE)
    with open("/proc/self/maps", "rb") as file:
        count = sum(1 for line in file if b"[vsyscall]" not in line)
    for page in range((limit - spare - count) // 2):
        calls.mprotect(base + (2 * page + 1) * PAGE_SIZE, PAGE_SIZE, 1)


def prepare(conditions: set[str]) -> None:
    if "mdwe" in conditions:
        calls.set_mdwe(DenyWriteExecute.REFUSE_EXEC_GAIN)
    if "personality" in conditions:
        ctypes.CDLL(None).personality(READ_IMPLIES_EXEC)
    if "data" in conditions:
        make_room()
        with open("/proc/self/status") as file:
            used = next(int(line.split()[1]) for line in file if line.startswith("VmData")) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + 8 * PAGE_SIZE, resource.RLIM_INFINITY))
    if "limit" in conditions:
        fill_to_the_limit(spare=4)


def make_room() -> None:
    """Have the allocators keep room for what happens meanwhile: Python's last arena, and the C library's heap."""
    kept.append([bytes(480) for _ in range(4000)][-1])
    bytearray(1 << 16)


def serve(connection: Connection, arena: Arena) -> None:
    """Do in this process what the other one asks for."""
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        connection.send(getattr(arena, name)(*arguments))


class Elsewhere:
    """The same arena in a child process; the requests are thought of here."""

    def __init__(self, arena: Arena) -> None:
        self.request = arena.request
        self._connection, theirs = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._connection.close()
            serve(theirs, arena)
            os._exit(0)
        theirs.close()

    def fill(self) -> None:
        self._ask("fill")

    def change(self, start: int, length: int, prot: int) -> "Outcome":
        outcome: Outcome = self._ask("change", start, length, prot)
        return outcome

    def _ask(self, name: str, *arguments: int) -> Any:
        self._connection.send((name, arguments))
        return self._connection.recv()


def main(seed: int, count: int, conditions: set[str]) -> None:
    chance = random.Random(seed)
    here = Arena(chance, "sealed" in conditions)
    prepare(conditions)
    arena: Arena | Elsewhere = Elsewhere(here) if "pid" in conditions else here
    pid = arena.pid if isinstance(arena, Elsewhere) else None
    seen: Counter[str] = Counter()
    for step in range(count):
        if step % 50 == 49:
            arena.fill()
        request = arena.request()
        told: Verdict = check(*request, pid=pid)
        found = arena.change(*request)
        expected = (told.errno, told.reason, told.start, told.stop)
        if found != expected:
            print(f"step {step}: {[hex(word % 2**64) for word in request]}: check {told}, mprotect {found}")
            sys.exit(1)
        seen["ok" if told else str(told.reason)] += 1
    print(count, *sorted(seen))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), set(sys.argv[3:]))
