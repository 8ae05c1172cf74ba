"""The operations of ``mmap`` objects on pages that may not be touched: each raises, and nothing dies or changes.

CPython itself turns such accesses into exceptions on Windows only.
"""

import subprocess
from collections.abc import Callable

import pytest

RunChild = Callable[..., subprocess.CompletedProcess[str]]

READS = {
    "read": "m.read(PAGE_SIZE)",
    "read_byte": "m.read_byte()",
    "readline": "m.readline()",
    "find": "m.find(b'A')",
    "rfind": "m.rfind(b'A')",
    "item": "m[0]",
    "slice": "m[0:10]",
    "extended slice": "m[0:10:2]",
    "slice backwards": "m[10:0:-1]",
    "list": "list(m)",
    "iteration": "next(iter(m))",
    "in": "b'B' in m",
    "bytes": "bytes(m)",
    "view": "bytes(memoryview(m)[:10])",
    "compare": "memoryview(m) == bytes(len(m))",
    "join": "b''.join([m, m])",
    "hash": "hashlib.sha256(m)",
    "search": "re.search(b'B', m)",
    "unpack": "struct.unpack_from('Q', m, 8)",
}
WRITES = {
    "set item": "m[0] = 66",
    "set slice": "m[0:10] = b'B' * 10",
    "set extended slice": "m[0:10:2] = b'B' * 5",
    "write": "m.write(b'B' * PAGE_SIZE)",
    "write_byte": "m.write_byte(66)",
    "move": "m.move(0, 10, 1)",
    "pack": "struct.pack_into('Q', m, 8, 1)",
    "set view": "memoryview(m)[3:5] = b'BB'",
}
HARMLESS = ["len(m)", "m.tell()", "m.seek(1)", "m.seek(0, os.SEEK_END)", "m.flush()", "repr(m)", "m.closed",
            "m.madvise(mmap.MADV_NORMAL)"]  # fmt: skip
KINDS = {
    "anonymous": "mmap.mmap(-1, 2 * PAGE_SIZE)",
    "private": "mmap.mmap(-1, 2 * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)",
    "a file": "mmap.mmap(file.fileno(), 2 * PAGE_SIZE)",
    "a copy of a file": "mmap.mmap(file.fileno(), 2 * PAGE_SIZE, access=mmap.ACCESS_COPY)",
}
SETUP = """
import hashlib, mmap, os, re, struct, sys, tempfile
from memprot import PAGE_SIZE, FaultError, calls, catch_faults, protect
file = tempfile.TemporaryFile()
file.truncate(2 * PAGE_SIZE)
"""
FILL = """
m[:] = before = b"A" * (2 * PAGE_SIZE)

def outcome(statement):
    m.seek(0)
    try:
        with catch_faults() as scope:
            exec(statement)
    except FaultError as fault:
        return fault.access if scope.faults == (fault,) and fault.cause == "protection" else repr(scope.faults)
    return "nothing"
"""


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("prot", ["---", "r--"])
def test_every_operation_raises_and_changes_nothing(run_child: RunChild, kind: str, prot: str) -> None:
    child = run_child(f"""{SETUP}
m = {kind}
{FILL}
protect(m, {prot!r})
for statements in ({list(READS.values())!r}, {list(WRITES.values())!r}, {HARMLESS!r}):
    print([outcome(statement) for statement in statements])
protect(m, "rw-")
print(m[:] == before, outcome("m.write(b'B')"), m[:2] == b"BA")
""")
    assert child.returncode == 0, child.stderr
    reads, writes, harmless, rest = child.stdout.splitlines()
    assert reads == str(["read" if prot == "---" else "nothing"] * len(READS))
    # What is moved is read first.
    moves = {"move": "read"} if prot == "---" else {}
    assert writes == str([moves.get(name, "write") for name in WRITES])
    assert harmless == str(["nothing"] * len(HARMLESS))
    assert rest == "True nothing True"


def test_an_operation_that_reaches_a_forbidden_page_raises_there(run_child: RunChild) -> None:
    """What came before it has been read or written; the position has moved as if all had been."""
    child = run_child(f"""{SETUP}
m = {KINDS["anonymous"]}
{FILL}
protect(memoryview(m)[PAGE_SIZE:], "r--")
m.seek(PAGE_SIZE - 2)
try:
    with catch_faults():
        m.write(b"BBBB")
except FaultError as fault:
    print(fault.access, m[PAGE_SIZE - 3 : PAGE_SIZE + 3], m.tell() - PAGE_SIZE)
""")
    assert (child.returncode, child.stdout) == (0, "write b'ABBAAA' 2\n"), child.stderr


def test_pages_that_others_forbade_later_are_recovered_too(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
import ctypes
m = {KINDS["anonymous"]}
{FILL}
protect(m, "r--")
address = ctypes.addressof(ctypes.c_char.from_buffer(m))
calls.mprotect(address, len(m), 0)
print(outcome("m[0]"), outcome("m[5] = 1"), outcome("m.find(b'B')"))
calls.mprotect(address, len(m), 3)
print(m[:] == before)
""")
    assert (child.returncode, child.stdout) == (0, "read write read\nTrue\n"), child.stderr
