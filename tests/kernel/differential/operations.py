"""Operations on an arena of addresses, drawn at random: what the model and the kernel are both asked to do."""

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from memprot import PAGE_SIZE
from memprot.flags import Advice, MapFlag

ARENA = 0x1_0000_0000  # below everything the kernel places by itself, above everything a program is linked to
FENCE_PAGES = 16
FILE_PAGES = 12

# Files by their names in files.py; the last is no name.
WRITABLE, READ_ONLY, FENCE = "writable", "read_only", "fence"
TRUNCATED = (WRITABLE, WRITABLE, "other", "disk")
MAPPED = (*[WRITABLE] * 4, READ_ONLY, "other", "disk", "write_only", "sealed", "future_sealed", "noexec", "not_open")

ACCESSES = ("read", "write", "execute")
NO_FLAG = 1 << 30  # a bit that no kind of flag has
MAYMOVE, FIXED, DONTUNMAP = 1, 2, 4  # of mremap


class Operation(NamedTuple):
    """A call by its name and arguments, so that a list of them can be printed, read back and repeated."""

    name: str
    arguments: tuple[int | str, ...] = ()

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(spell, self.arguments))})"


def spell(argument: int | str) -> str:
    """An argument as Python that means it, addresses by their page in the arena."""
    if isinstance(argument, int) and 0 <= argument - ARENA < 1 << 30:
        page, rest = divmod(argument - ARENA, PAGE_SIZE)
        return f"at({page}, {rest})" if rest else f"at({page})"
    return repr(argument)


def at(page: int, rest: int = 0) -> int:
    """The address of a page of the arena, or of a byte in it."""
    return ARENA + page * PAGE_SIZE + rest


@dataclass(frozen=True)
class World:
    """What kind of process the operations happen in."""

    name: str
    pages: int = 32
    threads: int = 1  # with more than one, each has rights of its own to memory with a protection key
    heap: bool = False
    room: int | None = None  # how many mappings more the process may have; None: as many as it likes
    moves_out: bool = True  # whether the kernel is asked to find places of its own
    limits: tuple[tuple[str, int], ...] = ()  # by the model's name, in pages over what the process has
    prots: tuple[int, ...] = (0, 1, 1, 3, 3, 3, 5, 7, 2, 4, 6)  # the fewer, the more neighbours may merge
    first: tuple[Operation, ...] = ()
    weights: tuple[tuple[str, float], ...] = ()


WEIGHTS = {
    "mprotect": 40,
    "mmap": 15,
    "munmap": 10,
    "madvise": 10,
    "mremap": 10,
    "mlock": 3,
    "mlock2": 1,
    "munlock": 2,
    "mseal": 0.3,
    "pkey_mprotect": 3,
    "pkey_alloc": 0.5,
    "pkey_free": 0.5,
    "access": 12,
    "probe": 1,
    "pages": 6,
    "truncate": 1,
}
HEAP_PAGE = 12

WORLDS = (
    World("plain"),
    World(
        "merging", pages=14, prots=(1, 3), weights=(("access", 45), ("mremap", 20), ("mlock", 1), ("pkey_mprotect", 0))
    ),
    World("merging locked", pages=14, prots=(1, 3), weights=(("access", 30), ("mremap", 20), ("mlock", 20))),
    World("files", weights=(("truncate", 4), ("mmap", 25), ("access", 25))),
    World("stacks", pages=600, weights=(("access", 40), ("mmap", 25))),
    World("sealing", weights=(("mseal", 8),)),
    World("heap", heap=True, weights=(("brk", 20),)),
    World("deny write execute", first=(Operation("set_mdwe", (1,)),), weights=(("set_mdwe", 0.5),)),
    World("read implies execute", first=(Operation("personality", (0x0400000,)),)),
    World("little may be locked", limits=(("memlock", 6),), weights=(("mlock", 15), ("munlock", 5))),
    World("few addresses", limits=(("address_space", 2 * FENCE_PAGES + 18),), weights=(("brk", 8),), heap=True),
    World("little data", limits=(("data", 18),)),
    World("short stacks", pages=600, limits=(("stack", 12),), weights=(("access", 40), ("mmap", 25))),
    World("few mappings left", room=12, moves_out=False),
)
# Without mremap: some of it has changed since the kernel that the model describes, and keys do not matter to it.
WORLD_WITH_KEYS = World(
    "keys",
    threads=2,
    weights=(("pkey_mprotect", 40), ("pkey_alloc", 8), ("pkey_free", 4), ("rights", 12), ("access", 30), ("mremap", 0)),
)


class Dice:
    """Random operations for a world, from a seeded generator."""

    def __init__(self, random: Random, world: World) -> None:
        self._random = random
        self._world = world
        weights: dict[str, float] = {**WEIGHTS, **dict(world.weights)}
        self._names = [name for name, weight in weights.items() if weight]
        self._weights = [weight for weight in weights.values() if weight]

    def sequence(self, count: int) -> list[Operation]:
        """So many, on an arena that is mostly filled at first: what lies in holes only fails."""
        most = HEAP_PAGE if self._world.heap else self._world.pages
        filled = self._random.randint(most // 2, most) if most <= 64 else 0
        opening = []
        if filled and not self._chance(5):
            flags = MapFlag.FIXED | self._random.choice((MapFlag.PRIVATE, MapFlag.PRIVATE, MapFlag.SHARED))
            descriptor: int | str = -1
            if self._chance(4):
                filled, descriptor = FILE_PAGES, WRITABLE
            else:
                flags |= MapFlag.ANONYMOUS
            opening.append(Operation("mmap", (ARENA, filled * PAGE_SIZE, 3, int(flags), descriptor, 0)))
        return opening + [self.operation() for _ in range(count - len(opening))]

    def operation(self) -> Operation:
        """The next one."""
        (name,) = self._random.choices(self._names, self._weights)
        arguments: tuple[int | str, ...] = getattr(self, f"_{name}")()
        return Operation(name, arguments)

    def _chance(self, one_in: int) -> bool:
        return self._random.randrange(one_in) == 0

    def _page(self) -> int:
        if self._world.pages > 64 and not self._chance(5):  # mostly at the upper end, where stacks end
            return self._random.randrange(self._world.pages - 32, self._world.pages)
        return self._random.randrange(self._world.pages)

    def _range(self, sizes: tuple[int, ...] = (1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 7, 10)) -> tuple[int, int]:
        """An address and a length: inside the arena, or such that no kernel gets as far as using them."""
        page = self._page()
        pages = min(self._random.choice(sizes), self._world.pages - page)
        address, length = at(page), pages * PAGE_SIZE
        if self._chance(12):
            length -= self._random.randrange(1, PAGE_SIZE)
        if self._chance(60):
            address += self._random.randrange(1, PAGE_SIZE)
            length = max(length - PAGE_SIZE, 1)
        if self._chance(60):
            length = self._random.choice((0, (1 << 64) - PAGE_SIZE, (1 << 64) - 1))
        return address, length

    def _prot(self) -> int:
        if self._chance(50):
            return self._random.choice((8, 0x10, 1 << 30, 1 << 32 | 5, 1 << 24 | 1, 3 << 24))
        if self._chance(8 if self._world.pages > 64 else 40):
            return self._random.choice((1 << 24, 1 << 25)) | self._random.randrange(8)
        return self._random.choice(self._world.prots)

    def _mprotect(self) -> tuple[int | str, ...]:
        return *self._range(), self._prot()

    def _pkey_mprotect(self) -> tuple[int | str, ...]:
        return *self._range(), self._prot(), self._key()

    def _key(self) -> int:
        return self._random.choice((-1, 0, 1, 1, 2, 3, 15, 16, -2))

    def _pkey_alloc(self) -> tuple[int | str, ...]:
        return self._random.choice((0, 0, 0, 0, 1)), self._random.choice((0, 1, 2, 3, 3, 4))

    def _pkey_free(self) -> tuple[int | str, ...]:
        return (self._random.choice((1, 2, 3, 4, 15, 16, -1)),)

    def _rights(self) -> tuple[int | str, ...]:
        return self._random.randrange(1, 5), self._random.randrange(4), self._random.randrange(self._world.threads)

    def _mmap(self) -> tuple[int | str, ...]:
        address, length = self._range((1, 2, 3, 4, 5, 6, 8, 10, 15))
        flags = int(self._random.choice((MapFlag.PRIVATE, MapFlag.PRIVATE, MapFlag.SHARED)))
        if self._chance(40):
            flags = self._random.choice((0, 3, 3, 3 | NO_FLAG, 8, 4))
        place = self._random.choice((MapFlag.FIXED, MapFlag.FIXED, MapFlag.FIXED, MapFlag.FIXED_NOREPLACE, 0))
        flags |= place if place or self._world.moves_out else MapFlag.FIXED_NOREPLACE
        descriptor: int | str = -1
        offset = 0
        stacks = self._world.pages > 64
        if self._chance(2) or (stacks and self._chance(2)):
            flags |= MapFlag.ANONYMOUS
            if (stacks and self._chance(2)) or self._chance(20):
                flags |= MapFlag.GROWSDOWN
        else:
            descriptor = self._random.choice(MAPPED)
            offset = self._random.randrange(FILE_PAGES) * PAGE_SIZE
            if self._chance(3):  # as if the file lay at the arena's start, so that neighbours continue each other
                offset = (address - ARENA) % (FILE_PAGES * PAGE_SIZE)
            if self._chance(60):
                offset = self._random.choice((1, (1 << 64) - PAGE_SIZE))
        if self._chance(20):
            flags |= self._random.choice(RARE_MAP_FLAGS)
        return address, length, self._prot(), int(flags), descriptor, offset

    def _munmap(self) -> tuple[int | str, ...]:
        return self._range((1, 1, 1, 2, 2, 3))

    def _access(self) -> tuple[int | str, ...]:
        return at(self._page()), self._random.choice(ACCESSES), self._random.randrange(self._world.threads)

    def _probe(self) -> tuple[int | str, ...]:
        return self._random.choice(ACCESSES), self._random.randrange(self._world.threads)

    def _pages(self) -> tuple[int | str, ...]:
        return ()

    def _truncate(self) -> tuple[int | str, ...]:
        return self._random.choice(TRUNCATED), self._random.randrange(FILE_PAGES * PAGE_SIZE)

    def _madvise(self) -> tuple[int | str, ...]:
        return *self._range(), self._random.choice(ADVICE)

    def _mlock(self) -> tuple[int | str, ...]:
        return self._range()

    def _mlock2(self) -> tuple[int | str, ...]:
        return *self._range(), self._random.choice((0, 1, 1, 1, 2))

    def _munlock(self) -> tuple[int | str, ...]:
        return self._range()

    def _mseal(self) -> tuple[int | str, ...]:
        return *self._range(), 1 if self._chance(20) else 0

    def _brk(self) -> tuple[int | str, ...]:
        page = self._random.choice((HEAP_PAGE - 1, *[HEAP_PAGE + pages for pages in range(9)], self._world.pages))
        return (at(page, self._random.choice((0, 0, 1, 100))),)

    def _set_mdwe(self) -> tuple[int | str, ...]:
        return (self._random.randrange(5),)

    def _mremap(self) -> tuple[int | str, ...]:
        address, length = self._range()
        new_length = length if self._chance(5) else self._range()[1]
        flags = self._random.choice((0, MAYMOVE if self._world.moves_out else 0, MAYMOVE | FIXED, MAYMOVE | FIXED))
        if self._chance(5) and flags & MAYMOVE:
            flags |= DONTUNMAP
            new_length = self._random.choice((length, length, new_length))
        if self._chance(40):
            flags = self._random.choice((NO_FLAG, FIXED, DONTUNMAP))
        most = self._world.pages
        room = most - min(new_length // PAGE_SIZE + 1, most)
        target = at(min(self._page(), room), 1 if self._chance(40) else 0)
        return address, length, new_length, flags, target


RARE_MAP_FLAGS = (
    *[MapFlag.LOCKED, MapFlag.POPULATE, MapFlag.NORESERVE] * 3,
    MapFlag.STACK,
    MapFlag.DENYWRITE,
    MapFlag.NONBLOCK | MapFlag.POPULATE,
    MapFlag.UNINITIALIZED,
)
ADVICE = (
    *[int(Advice.DONTNEED)] * 6,
    *[int(Advice.GUARD_INSTALL)] * 5,
    *[int(Advice.GUARD_REMOVE)] * 3,
    int(Advice.NORMAL),
    int(Advice.RANDOM),
    int(Advice.SEQUENTIAL),
    int(Advice.WILLNEED),
    int(Advice.FREE),
    int(Advice.DONTFORK),
    int(Advice.DOFORK),
    int(Advice.DONTDUMP),
    int(Advice.DODUMP),
    int(Advice.WIPEONFORK),
    int(Advice.KEEPONFORK),
    int(Advice.POPULATE_READ),
    int(Advice.POPULATE_WRITE),
    int(Advice.REMOVE),
    int(Advice.DONTNEED_LOCKED),
    int(Advice.COLD),
    int(Advice.PAGEOUT),
    int(Advice.MERGEABLE),
    int(Advice.UNMERGEABLE),
    int(Advice.HUGEPAGE),
    int(Advice.NOHUGEPAGE),
    99,
)
