"""The kernel's side of the comparison: a process with an arena of addresses that obeys (``tests/native/arena.c``)."""

import os
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parent.parent.parent / "native" / "arena.c"

START, FINISH, SYSTEM_CALL, PLACING_CALL, PROBE, MAPS, FILL, RIGHTS, HEAP, PAGES = range(10)

REQUEST = struct.Struct("<8Q")
ANSWER = struct.Struct("<qII")
DIED = 0xFFFFFFFF
ANYTHING = (1 << 64) - 1


class Request(NamedTuple):
    """One thing for the arena's process to do."""

    kind: int
    number: int = 0
    arguments: tuple[int, ...] = ()

    def pack(self) -> bytes:
        values = [argument & ANYTHING for argument in self.arguments]
        return REQUEST.pack(self.kind, self.number, *values, *[0] * (6 - len(values)))


class Answer(NamedTuple):
    """What came of it: the call's result, its errno or 0, and what was read."""

    result: int
    errno: int
    payload: bytes


class ArenaDeathError(Exception):
    """The arena's process ended by a signal: an operation hurt what is outside the arena."""


class ArenaProcess:
    """The program, running, with ``descriptors`` inherited."""

    def __init__(self, program: Path, descriptors: Iterable[int] = ()) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=tuple(descriptors), bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input = self._process.stdin.fileno()
        self._output = self._process.stdout.fileno()
        self._unread = bytearray()

    def ask(self, requests: list[Request]) -> list[Answer]:
        """Have all of them done in this order. At most some hundreds: the answers wait in a pipe meanwhile."""
        data = b"".join(request.pack() for request in requests)
        while data:
            data = data[os.write(self._input, data) :]
        return [self._answer() for _ in requests]

    def _answer(self) -> Answer:
        result, error, length = ANSWER.unpack(self._take(ANSWER.size))
        if length == DIED:
            raise ArenaDeathError(f"the arena's process ended with wait status {result:#x}")
        return Answer(result, error, self._take(length))

    def _take(self, size: int) -> bytes:
        while len(self._unread) < size:
            piece = os.read(self._output, 1 << 20)
            if not piece:
                raise ArenaDeathError(f"the arena's program ended with status {self._process.wait()}")
            self._unread += piece
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def arena_process(descriptors: Iterable[int] = ()) -> Iterator[ArenaProcess]:
    """The program, compiled and started for the duration of a block."""
    with tempfile.TemporaryDirectory(prefix="arena-") as folder:
        program = Path(folder) / "arena"
        flags = ["-O2", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread"]
        subprocess.run(["cc", *flags, "-o", program, SOURCE], check=True)
        process = ArenaProcess(program, descriptors)
        try:
            yield process
        finally:
            process.close()
