"""What a child process gets of its parent's mappings and pages: the model's word against the kernel's.

All happens in children of this process; the first of them is the parent of the comparison.
"""

import ctypes
import os
import random
from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from memprot import PAGE_SIZE, ProtectionError
from memprot.flags import Advice, MapFlag
from memprot.model import AddressSpace
from memprot.model.page_tables import PRESENT

ARENA = 0x2_0000_0000
PAGES = 24
TRIALS = 25
PRIVATE = int(MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED)
SHARED = int(MapFlag.SHARED | MapFlag.ANONYMOUS | MapFlag.FIXED)
MAYMOVE, FIXED, DONTUNMAP = 1, 2, 4
ADVICE = (
    Advice.DONTNEED,
    Advice.GUARD_INSTALL,
    Advice.GUARD_REMOVE,
    Advice.DONTFORK,
    Advice.DOFORK,
    Advice.WIPEONFORK,
    Advice.KEEPONFORK,
    Advice.DONTDUMP,
)

# Bits of a word of /proc/PID/pagemap. A guard marker is reported as swapped by kernels that do not say "guard".
PAGE_PRESENT, PAGE_SWAPPED, PAGE_IS_GUARD = 1 << 63, 1 << 62, 1 << 58

LIBC = ctypes.CDLL(None, use_errno=True)
WORD, NUMBER = ctypes.c_size_t, ctypes.c_int
ARGUMENTS = {
    "mmap": (WORD, WORD, NUMBER, NUMBER, NUMBER, ctypes.c_long),
    "munmap": (WORD, WORD),
    "mprotect": (WORD, WORD, NUMBER),
    "madvise": (WORD, WORD, NUMBER),
    "mremap": (WORD, WORD, WORD, NUMBER, WORD),
    "mlock": (WORD, WORD),
    "munlock": (WORD, WORD),
}


class Step(NamedTuple):
    """A call, or an access: its name and its arguments."""

    name: str
    arguments: tuple[int | str, ...]


def draw(dice: random.Random) -> Step:
    page = dice.randrange(PAGES)
    address = ARENA + page * PAGE_SIZE
    length = min(dice.randint(1, 5), PAGES - page) * PAGE_SIZE
    target = dice.randrange(PAGES - 5)
    choices: dict[str, tuple[float, tuple[int | str, ...]]] = {
        "mprotect": (35, (address, length, dice.choice((0, 1, 3, 3, 3, 5)))),
        "mmap": (10, (address, length, dice.choice((0, 1, 3)), dice.choice((PRIVATE, PRIVATE, SHARED)), -1, 0)),
        "munmap": (5, (address, length)),
        "madvise": (10, (address, length, int(dice.choice(ADVICE)))),
        "mlock": (3, (address, length)),
        "munlock": (2, (address, length)),
        "mremap": (
            10,
            (
                address,
                length,
                dice.choice((length, PAGE_SIZE)),
                dice.choice((MAYMOVE | FIXED, MAYMOVE | FIXED | DONTUNMAP)),
                ARENA + target * PAGE_SIZE,
            ),
        ),
        "touch": (25, (address, dice.choice(("read", "write", "write")))),
    }
    (name,) = dice.choices(list(choices), [weight for weight, _ in choices.values()])
    return Step(name, choices[name][1])


def ask_kernel(step: Step) -> int:
    function = getattr(LIBC, step.name)
    function.argtypes = ARGUMENTS[step.name]
    function.restype = ctypes.c_ssize_t if step.name in ("mmap", "mremap") else NUMBER
    return ctypes.get_errno() if function(*step.arguments) == -1 else 0


def ask_model(space: AddressSpace, step: Step) -> int:
    try:
        getattr(space, step.name)(*step.arguments)
    except ProtectionError as error:
        return error.errno or -1
    return 0


def touch(space: AddressSpace, address: int, kind: str) -> None:
    """An access which the model says is allowed is made; were it not, the child would die."""
    if not space.access(address, kind).ok:
        return
    if kind == "write":
        ctypes.memset(address, 1, 1)
    else:
        ctypes.string_at(address, 1)


def inside(maps: str) -> list[str]:
    """The lines of the arena, without inode numbers, which the model does not share."""
    found = []
    for line in maps.splitlines():
        if ARENA <= int(line.split("-")[0], 16) < ARENA + PAGES * PAGE_SIZE:
            found.append(" ".join(line.split()[:3]))
    return found


def pages_of_kernel() -> list[bool]:
    """Which pages of the arena are there, in memory or in swap space."""
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        words = array("Q", os.pread(file.fileno(), 8 * PAGES, ARENA // PAGE_SIZE * 8))
    return [bool(word & (PAGE_PRESENT | PAGE_SWAPPED) and not word & PAGE_IS_GUARD) for word in words]


def pages_of_model(space: AddressSpace) -> list[bool]:
    tables = space._memory.tables
    return [bool(tables.get(ARENA // PAGE_SIZE + page) & PRESENT) for page in range(PAGES)]


def same(space: AddressSpace, done: list[str]) -> None:
    """The mappings, and which private pages are there. Those of files come in several at a time, unasked."""
    assert inside(space.maps()) == inside(Path("/proc/self/maps").read_text()), "\n".join(done)
    private = [
        found is not None and found.file is None
        for found in (space._memory.mappings.at(ARENA + page * PAGE_SIZE) for page in range(PAGES))
    ]
    ours, theirs = pages_of_model(space), pages_of_kernel()
    differing = [page for page in range(PAGES) if private[page] and ours[page] != theirs[page]]
    assert not differing, "\n".join([*done, f"pages {differing}: the model says {[ours[n] for n in differing]}"])


def compare(space: AddressSpace, dice: random.Random, count: int, done: list[str]) -> None:
    same(space, done)
    for _ in range(count):
        step = draw(dice)
        done.append(repr(step))
        if step.name == "touch":
            touch(space, int(step.arguments[0]), str(step.arguments[1]))
        else:
            assert ask_kernel(step) == ask_model(space, step), "\n".join(done)
        same(space, done)


def in_child(work: Callable[[], None]) -> None:
    """Run it in a child process and wait; what it raises is raised here, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}"[:60000].encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as text:
        said = text.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"wait status {status}: {said}"


def generations(space: AddressSpace, dice: random.Random, depth: int, done: list[str]) -> None:
    compare(space, dice, dice.randint(3, 25), done)
    if depth:
        child = space.fork()
        done.append("fork")
        in_child(lambda: generations(child, dice, depth - 1, [*done]))
        compare(space, dice, 8, done)


@pytest.mark.parametrize("depth", [1, 2])
def test_children_have_the_mappings_that_the_model_gives_them(depth: int) -> None:
    for seed in range(TRIALS):
        dice = random.Random(f"{depth} {seed}")
        in_child(partial(generations, AddressSpace(), dice, depth, [f"seed {seed}"]))
