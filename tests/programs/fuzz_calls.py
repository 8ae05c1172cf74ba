"""Calls one function of memprot.calls with many random arguments, and says what came out that must not.

``fuzz_calls.py NAME COUNT SEED`` exits with 0 and a line of statistics, or with 1 and the first arguments that
did wrong. Everything an argument can reach is an arena far from the interpreter's memory: a range that the call
could act on lies inside it, every other range is one that the kernel refuses as a whole.
"""

import ctypes
import errno
import glob
import inspect
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from memprot import PAGE_SIZE, Prot, ProtectionError, calls
from memprot.calls import Advice, MapFlag, MemfdFlag, RemapFlag

# Below everything that the kernel places by itself, so that nothing else ever comes to lie in a hole of it.
ARENA: Final = 64 << 30
PAGES: Final = 64
ARENA_END: Final = ARENA + PAGES * PAGE_SIZE
LOW_END: Final = 16 * PAGE_SIZE
SPACE_END: Final = 1 << 57
PRIVATE: Final = MapFlag.PRIVATE | MapFlag.ANONYMOUS
FRESH_EVERY: Final = 50  # calls; one that is asked for its errno on a fresh arena needs a fresh one itself
PREFIX: Final = f"memprot-fuzz-{os.getpid()}-"
NO_INTS: Final = (True, False, 1.0, float("nan"), None, "r-x", b"1", (), [1], 1j, object())
BEYOND: Final = (1 << 64, -(1 << 63) - 1, 1 << 200, -(1 << 200))

Rng = random.Random
Words = tuple[int, ...]


def far_int(rng: Rng) -> int:
    return rng.choice((0, 1, -1, 2, 3, 1 << 31, 1 << 32, 1 << 63, (1 << 63) - 1, (1 << 64) - 1, -(1 << 63), -4096)) ^ (
        rng.getrandbits(rng.choice((0, 0, 1, 3, 12)))
    )


def fits(value: int) -> bool:
    return -(1 << 63) <= value < 1 << 64


def word(rng: Rng) -> int:
    value = far_int(rng)
    return value if fits(value) else 0


def address(rng: Rng) -> int:
    kind = rng.random()
    if kind < 0.75:
        return ARENA + rng.randrange(PAGES) * PAGE_SIZE
    if kind < 0.85:
        return ARENA + rng.randrange(PAGES * PAGE_SIZE)
    if kind < 0.9:
        return rng.randrange(LOW_END)
    high = rng.choice((SPACE_END, 1 << 62, 1 << 63, 0xFFFF_8000_0000_0000, 0xFFFF_FFFF_FF60_0000, (1 << 64) - 8192))
    value = min(high + rng.randrange(3) * rng.choice((1, PAGE_SIZE)), (1 << 64) - 1)
    return value - (1 << 64) if value >= 1 << 63 and rng.random() < 0.3 else value


def room(start: int) -> int:
    """How many bytes from an address on a call may act on."""
    start %= 1 << 64
    if ARENA <= start < ARENA_END:
        return ARENA_END - start
    return LOW_END - start if start < LOW_END else 1 << 62


def length(rng: Rng, start: int) -> int:
    """One that stays in the arena, or one with which the range wraps."""
    kind = rng.random()
    if kind < 0.6:
        return min(rng.randrange(5) * PAGE_SIZE, room(start))
    if kind < 0.8:
        return rng.randrange(room(start) + 1) if room(start) < 1 << 40 else rng.randrange(1 << 20)
    if kind < 0.9:
        return rng.choice((0, 1))
    # As an unsigned word, all of these wrap with every address of at least two pages.
    wrapping = (1 << 64) - rng.choice((1, 2, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1))
    if start % (1 << 64) <= 2 * PAGE_SIZE:
        return 1
    return wrapping - (1 << 64) if rng.random() < 0.5 else wrapping


def prot(rng: Rng) -> int:
    return rng.choice((rng.randrange(8), rng.randrange(64), Prot.GROWSDOWN | 1, Prot.GROWSUP | 1, 3 << 24, word(rng)))


def span(rng: Rng) -> tuple[int, int]:
    start = address(rng)
    return start, length(rng, start)


def flags_of(kind: Any, rng: Rng) -> int:
    """Some of an enumeration's members together, or a far number."""
    if rng.random() < 0.15:
        return word(rng)
    value = 0
    for _ in range(rng.randrange(1, 4)):
        value |= rng.choice(list(kind.__members__.values()))
    return value


def advice(rng: Rng) -> int:
    value = rng.choice([*Advice, word(rng)])
    # The kernel would take memory of this machine out of service for good.
    return 0 if value % (1 << 32) in (Advice.HWPOISON, Advice.SOFT_OFFLINE) else value


class Arena:
    """Mappings of several kinds with holes between them, and descriptors."""

    def __init__(self) -> None:
        self.memory_file = calls.memfd_create("fuzz", MemfdFlag.CLOEXEC | MemfdFlag.ALLOW_SEALING)
        os.ftruncate(self.memory_file, 8 * PAGE_SIZE)
        self.read_only = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
        self.process = os.pidfd_open(os.getpid())
        self.sealed = 0
        self.refresh()

    def refresh(self) -> None:
        calls.munmap(0, LOW_END)
        calls.munmap(ARENA, PAGES * PAGE_SIZE)
        fixed = MapFlag.FIXED_NOREPLACE
        calls.mmap(ARENA, 16 * PAGE_SIZE, 3, PRIVATE | fixed)
        calls.mmap(ARENA + 20 * PAGE_SIZE, 8 * PAGE_SIZE, 3, MapFlag.SHARED | fixed, self.memory_file, 0)
        calls.mmap(ARENA + 28 * PAGE_SIZE, 4 * PAGE_SIZE, 1, MapFlag.PRIVATE | fixed, self.read_only, 0)
        calls.mmap(ARENA + 40 * PAGE_SIZE, 4 * PAGE_SIZE, 3, PRIVATE | fixed | MapFlag.GROWSDOWN)
        calls.mmap(ARENA + 44 * PAGE_SIZE, 8 * PAGE_SIZE, 0, PRIVATE | fixed)
        ctypes.memset(ARENA, 1, 2 * PAGE_SIZE)

    def seal_only_what_stays(self) -> None:
        """For mseal: nothing but a few pages that are sealed already, so that sealing changes nothing."""
        calls.munmap(ARENA, PAGES * PAGE_SIZE)
        calls.mmap(ARENA, 4 * PAGE_SIZE, 1, PRIVATE | MapFlag.FIXED_NOREPLACE)
        try:
            calls.mseal(ARENA, 4 * PAGE_SIZE)
        except ProtectionError as error:
            if error.errno != errno.ENOSYS:
                raise

    def descriptor(self, rng: Rng) -> int:
        return rng.choice((-1, self.memory_file, self.read_only, self.process, 0, 1 << 20, word(rng)))


arena = Arena()
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.argtypes = (ctypes.c_long,) + (ctypes.c_ulong,) * 6
libc.syscall.restype = ctypes.c_long
NUMBERS = {
    "x86_64": (
        "mmap=9 mprotect=10 munmap=11 brk=12 mremap=25 msync=26 mincore=27 madvise=28 personality=135 "
        "mlock=149 munlock=150 mlockall=151 munlockall=152 prctl=157 mbind=237 set_mempolicy=238 "
        "get_mempolicy=239 move_pages=279 memfd_create=319 mlock2=325 pkey_mprotect=329 pkey_alloc=330 "
        "pkey_free=331 process_madvise=440 memfd_secret=447 mseal=462"
    ),
    "aarch64": (
        "mmap=222 mprotect=226 munmap=215 brk=214 mremap=216 msync=227 mincore=232 madvise=233 personality=92 "
        "mlock=228 munlock=229 mlockall=230 munlockall=231 prctl=167 mbind=235 set_mempolicy=237 "
        "get_mempolicy=236 move_pages=239 memfd_create=279 mlock2=284 pkey_mprotect=288 pkey_alloc=289 "
        "pkey_free=290 process_madvise=440 memfd_secret=447 mseal=462"
    ),
}[os.uname().machine]
SYSTEM_CALLS = {name: int(number) for name, _, number in (pair.partition("=") for pair in NUMBERS.split())}


def raw(name: str, words: Words) -> int:
    """The errno of the system call, 0 where it succeeds."""
    padded = [value % (1 << 64) for value in words] + [0] * (6 - len(words))
    return ctypes.get_errno() if libc.syscall(SYSTEM_CALLS[name], *padded) == -1 else 0


# What each call is given, in the order of its parameters.
def mmap(rng: Rng) -> tuple[Any, ...]:
    start, size = span(rng)
    usual = rng.choice((PRIVATE, MapFlag.SHARED | MapFlag.ANONYMOUS, MapFlag.SHARED, MapFlag.PRIVATE))
    flags = flags_of(MapFlag, rng) if rng.random() < 0.4 else usual | rng.choice(list(MapFlag))
    return start, size, prot(rng), flags, arena.descriptor(rng), rng.choice((0, 0, PAGE_SIZE, 1, word(rng)))


def mremap(rng: Rng) -> tuple[Any, ...]:
    start, old = span(rng)
    target = address(rng)
    new = length(rng, target if room(target) < room(start) else start)
    return start, old, new, flags_of(RemapFlag, rng), rng.choice((None, target))


def some_brk(rng: Rng) -> int:
    return rng.choice((0, calls.brk() + rng.choice((0, 1, 64)), 1, PAGE_SIZE, -rng.randrange(1, 1 << 20), 1 << 63))


def some_sbrk(rng: Rng) -> int:
    return rng.choice((0, 1, 64, (1 << 63) - rng.randrange(1 << 20), (1 << 64) - 1, 1 << 63, -(1 << 62), -(1 << 63)))


def nodes(rng: Rng) -> Any:
    return rng.choice(((), (0,), [0, 0], {1}, range(3), (63,), (64,), (1023,), (1024,), (32767,), (n for n in (0,))))


def name(rng: Rng) -> str | bytes:
    """One that no memory file can have, or one that no other program has."""
    text = rng.choice(("", "/", "//", "/a/b", "/.", "/..", "x" * 300))
    if rng.random() < 0.7:
        text = f"/{PREFIX}{rng.choice(('', 'a', chr(10), 'é', chr(0xDCFF), '/b', '[', 'x' * 200))}"
    return text.encode(errors="surrogateescape") if rng.random() < 0.5 else text


def ranges(rng: Rng) -> list[tuple[int, int]]:
    found = []
    for _ in range(rng.randrange(4)):
        start = ARENA + rng.randrange(PAGES) * PAGE_SIZE
        found.append((start, start + rng.randrange(room(start) + 1)))
    return found


def pid(rng: Rng) -> int:
    return rng.choice((0, os.getpid(), 0x7FFF_FFFF, -1, 1 << 32, 1 << 32 | os.getpid()))


def pages_and_nodes(rng: Rng) -> tuple[list[int], list[int] | None]:
    pages = [address(rng) for _ in range(rng.randrange(4))]
    return pages, rng.choice((None, [rng.choice((0, 0, 1, 32767)) for _ in pages]))


def key_rights(rng: Rng) -> tuple[int, int]:
    # Without access to key 0 the program could not go on.
    return rng.choice((1, 15, 16, -1, 1 << 32, word(rng) or 1)), rng.choice((0, 1, 2, 3, 4, word(rng)))


ARGUMENTS: dict[str, Callable[[Rng], tuple[Any, ...]]] = {
    "mprotect": lambda rng: (*span(rng), prot(rng)),
    "pkey_mprotect": lambda rng: (*span(rng), prot(rng), rng.choice((-1, 0, 1, 15, 16, word(rng)))),
    "pkey_alloc": lambda rng: (rng.choice((0, 1, word(rng))), rng.choice((0, 1, 2, 3, 4, word(rng)))),
    "pkey_free": lambda rng: (rng.choice((0, 1, 15, 16, word(rng))),),
    "pkey_get": lambda rng: (rng.choice((0, 1, 15, 16, word(rng))),),
    "pkey_set": key_rights,
    "mmap": mmap,
    "munmap": span,
    "mremap": mremap,
    "madvise": lambda rng: (*span(rng), advice(rng)),
    "process_madvise": lambda rng: (arena.descriptor(rng), ranges(rng), advice(rng), rng.choice((0, 0, word(rng)))),
    "mlock": span,
    "mlock2": lambda rng: (*span(rng), rng.choice((0, 1, 2, word(rng)))),
    "munlock": span,
    "mlockall": lambda rng: (rng.choice((0, 4, 6, 8, word(rng))) if rng.random() < 0.99 else rng.randrange(8),),
    "munlockall": lambda rng: (),
    "mincore": span,
    "msync": lambda rng: (*span(rng), rng.choice((0, 1, 2, 4, 5, 8, word(rng)))),
    "mseal": lambda rng: (*span(rng), rng.choice((0, 0, 1, word(rng)))),
    "memfd_create": lambda rng: (name(rng), flags_of(MemfdFlag, rng)),
    "memfd_secret": lambda rng: (rng.choice((0, os.O_CLOEXEC, 1, word(rng))),),
    "shm_open": lambda rng: (name(rng), os.O_RDWR | rng.choice((0, os.O_CREAT, os.O_EXCL | os.O_CREAT)), 0o600),
    "shm_unlink": lambda rng: (name(rng),),
    "brk": lambda rng: (some_brk(rng),),
    "sbrk": lambda rng: (some_sbrk(rng),),
    "mbind": lambda rng: (*span(rng), rng.choice((0, 1, 2, 3, 4, 5, 6, 7, word(rng))), nodes(rng), rng.randrange(9)),
    "set_mempolicy": lambda rng: (rng.choice((0, 1, 2, 3, 4, 5, 6, 7, word(rng))), nodes(rng)),
    "get_mempolicy": lambda rng: (rng.choice((None, address(rng))),),
    "move_pages": lambda rng: (pid(rng), *pages_and_nodes(rng), rng.choice((0, 2, 4, word(rng)))),
    "set_mdwe": lambda rng: (rng.choice((0, 1, 2, 3, 4, word(rng))),),
    "get_mdwe": lambda rng: (),
    "set_name": lambda rng: (*span(rng), rng.choice((None, name(rng)))),
    "personality": lambda rng: (rng.choice((0, 0xFFFF_FFFF, 8, 1 << 22, rng.getrandbits(32), word(rng))),),
}
# Parameters for which something else than an int may be right.
OTHER_KINDS = frozenset(("name", "nodes", "ranges", "pages", "new_addr"))
# What may be done twice with the same answer.
REPEATABLE = re.compile("mprotect|pkey_mprotect|munmap|madvise|mlock2?|munlock|munlockall|mincore|msync|mseal|set_mdwe")
PR_SET_MDWE, PR_GET_MDWE, PR_SET_VMA = 65, 66, 0x53564D41
MPOL_F_ADDR = 2
answers = ctypes.create_string_buffer(2 * PAGES)


def raw_errno(call: str, given: tuple[Any, ...]) -> int | None:
    """What the kernel says to the same without memprot; None where asking that way would be another question."""
    if call in ("set_mdwe", "get_mdwe"):
        return raw("prctl", (PR_SET_MDWE, *given) if given else (PR_GET_MDWE,))
    if call == "mincore":
        return raw(call, (*given, ctypes.addressof(answers)))
    if call == "get_mempolicy":
        return raw(call, (ctypes.addressof(answers), 0, 0, *((0, 0) if given == (None,) else (*given, MPOL_F_ADDR))))
    if call == "mremap":
        # With FIXED it has unmapped the new place even where it fails.
        arena.refresh()
        return raw(call, (*given[:4], given[4] or 0))
    if call in ("memfd_create", "set_name"):
        text = next((value for value in given if isinstance(value, str | bytes)), None)
        buffer = None if text is None else ctypes.create_string_buffer(os.fsencode(text))
        pointer = 0 if buffer is None else ctypes.addressof(buffer)
        return (
            raw(call, (pointer, given[1]))
            if call == "memfd_create"
            else raw("prctl", (PR_SET_VMA, 0, *given[:2], pointer))
        )
    # The break is answered by no errno; without keys, the first pkey_alloc has another errno than the next.
    if call not in SYSTEM_CALLS or call in ("brk", "pkey_alloc") or not all(isinstance(value, int) for value in given):
        return None
    return raw(call, given)


def put_back(call: str, given: tuple[Any, ...], result: Any) -> None:
    """Undo what a call did outside the arena."""
    if call in ("mmap", "mremap") and not ARENA <= result < ARENA_END:
        calls.munmap(result, given[1] if call == "mmap" else given[2])
    elif call in ("memfd_create", "memfd_secret", "shm_open"):
        os.close(result)
    elif call == "mlockall":
        calls.munlockall()
    elif call == "set_mempolicy":
        calls.set_mempolicy(0)
    elif call == "personality":
        calls.personality(result)
    elif call == "pkey_alloc":
        calls.pkey_free(result)


def spoilt(call: str, given: tuple[Any, ...], rng: Rng) -> tuple[tuple[Any, ...], bool]:
    """With an argument that is no int of 64 bits, or one too many; and whether that must be refused."""
    names = PARAMETERS[call]
    if not given or rng.random() < 0.1:
        return (*given, *[0] * (len(names) + 1 - len(given))), True
    i = rng.randrange(len(given))
    value = rng.choice(NO_INTS + BEYOND)
    if names[i] in OTHER_KINDS or (call, names[i]) == ("get_mempolicy", "addr"):
        value = rng.choice((1.0, 1, "\0", [None], [1.0], [1 << 64], [-1], ["x"], [(1, 2, 3)], [(2, 1)], object()))
        return (*given[:i], value, *given[i + 1 :]), False
    return (*given[:i], value, *given[i + 1 :]), True


def outcome_of(call: str, given: tuple[Any, ...], must_refuse: bool | None) -> str:
    """What came of one call, in a word; an AssertionError says what must not be."""
    try:
        result = getattr(calls, call)(*given)
    except ProtectionError as error:
        assert must_refuse is not True, "reached the kernel"
        assert "\n" not in str(error), f"more than one line: {error}"
        expected = None if must_refuse is False else raw_errno(call, given)
        assert expected in (None, error.errno), f"errno {error.errno}, and the kernel says {expected}"
        return errno.errorcode[error.errno or 0]
    except (TypeError, ValueError, OverflowError) as error:
        assert must_refuse is not None, f"refused: {error!r}"
        assert "\n" not in str(error), f"more than one line: {error}"
        return type(error).__name__
    assert must_refuse is not True, "accepted"
    put_back(call, given, result)
    if must_refuse is None and REPEATABLE.fullmatch(call):
        again = raw_errno(call, given)
        assert not again, f"success, and the kernel says {again}"
    return "success"


PARAMETERS = {call: list(inspect.signature(getattr(calls, call)).parameters) for call in ARGUMENTS}


def main(call: str, count: int, seed: int) -> int:
    rng = random.Random(f"{call} {seed}")
    outcomes: Counter[str] = Counter()
    if call == "mseal":
        arena.seal_only_what_stays()
    for n in range(count):
        if (n % FRESH_EVERY == 0 or call == "mremap") and call != "mseal":
            arena.refresh()
        given, must_refuse = ARGUMENTS[call](rng), None
        if rng.random() < 0.1:
            given, must_refuse = spoilt(call, given, rng)
        try:
            outcomes[outcome_of(call, given, must_refuse)] += 1
        except AssertionError as error:
            print(f"{call}{given!r}, number {n} of seed {seed}: {error}")
            return 1
    for path in glob.glob(f"/dev/shm/{PREFIX}*"):
        os.unlink(path)
    print(f"{call}: {count} calls, seed {seed}: {', '.join(f'{word} {n}' for word, n in outcomes.most_common())}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
