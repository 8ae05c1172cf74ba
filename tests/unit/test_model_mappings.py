"""The model's ordered mappings, against a plain list; and what holds in every space, whatever was called."""

import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from memprot import PAGE_SIZE, ProtectionError
from memprot.flags import MapFlag
from memprot.model import AddressSpace
from memprot.model.mapping import Mapping
from memprot.model.mappings import Mappings

PRIVATE = MapFlag.PRIVATE | MapFlag.ANONYMOUS
BASE = 0x100000
PAGES = 24


def one_page(number: int) -> Mapping:
    return Mapping(number * PAGE_SIZE, (number + 1) * PAGE_SIZE, 0, number)


def naive_find(starts: list[int], address: int) -> int | None:
    return next((start for start in starts if start + PAGE_SIZE > address), None)


def check_against(mappings: Mappings, starts: list[int]) -> None:
    assert [mapping.start for mapping in mappings] == starts
    assert len(mappings) == len(starts)
    assert [mapping.start for mapping in reversed(mappings)] == starts[::-1]
    for lower, upper in pairwise(mappings):
        assert lower.next is upper
        assert upper.previous is lower


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3000)), max_size=80), st.integers(0, 2500))
def test_it_finds_what_a_plain_list_finds(steps: list[tuple[bool, int]], filled: int) -> None:
    mappings = Mappings()
    held: dict[int, Mapping] = {}
    for number in range(filled):
        held[number] = one_page(number)
        mappings.insert(held[number])
    for add, number in steps:
        if add and number not in held:
            held[number] = one_page(number)
            mappings.insert(held[number])
        elif not add and number in held:
            mappings.remove(held.pop(number))
    starts = sorted(number * PAGE_SIZE for number in held)
    check_against(mappings, starts)
    for _, number in steps:
        for address in (number * PAGE_SIZE, number * PAGE_SIZE - 1):
            found = mappings.find(address)
            assert (found and found.start) == naive_find(starts, address)
            below = mappings.below(address)
            assert (below and below.start) == max((start for start in starts if start < address), default=None)


def naive_highest(space: list[Mapping], length: int, low: int, high: int) -> int | None:
    ends = [low, *(mapping.stop for mapping in space)]
    starts = [*(mapping.start for mapping in space), high]
    fitting = [
        min(stop, high) - length
        for start, stop in zip(ends, starts, strict=True)
        if min(stop, high) - max(start, low) >= length
    ]
    return max(fitting, default=None)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 4000), min_size=1, max_size=1500, unique=True),
    st.integers(1, 30),
    st.lists(st.integers(0, 1499), max_size=30),
)
def test_it_finds_the_highest_gap(numbers: list[int], pages: int, removed: list[int]) -> None:
    mappings = Mappings()
    held = [one_page(number) for number in numbers]
    for mapping in held:
        mappings.insert(mapping)
    length, low, high = pages * PAGE_SIZE, PAGE_SIZE, 4100 * PAGE_SIZE
    assert mappings.highest_gap(length, low, high) == naive_highest(list(mappings), length, low, high)
    for place in removed:
        if place < len(held) and held[place] in list(mappings):
            mappings.remove(held[place])
    assert mappings.highest_gap(length, low, high) == naive_highest(list(mappings), length, low, high)


def test_the_bounds_of_chunks_move_with_the_starts() -> None:
    mappings = Mappings()
    held = [one_page(number * 4) for number in range(1, 1200)]
    for mapping in held:
        mappings.insert(mapping)
    for mapping in held:
        mappings.set_start(mapping, mapping.start - PAGE_SIZE)
        mappings.set_stop(mapping, mapping.stop + PAGE_SIZE)
    for mapping in held:
        assert mappings.at(mapping.start) is mapping
        assert mappings.at(mapping.stop - 1) is mapping
        assert mappings.at(mapping.stop) is None


CALLS = st.lists(
    st.tuples(
        st.sampled_from(("mmap", "munmap", "mprotect", "madvise", "mlock", "munlock", "write", "mremap", "mseal")),
        st.integers(0, PAGES - 1),
        st.integers(1, 6),
        st.integers(0, 7),
    ),
    max_size=60,
)


def perform(space: AddressSpace, call: str, page: int, pages: int, value: int) -> None:
    address, length = BASE + page * PAGE_SIZE, pages * PAGE_SIZE
    if call == "mmap":
        space.mmap(address, length, value, PRIVATE | MapFlag.FIXED)
    elif call == "mprotect":
        space.mprotect(address, length, value)
    elif call == "madvise":
        space.madvise(address, length, (4, 102, 103, 10, 11, 16, 17, 8)[value])
    elif call == "mremap":
        space.mremap(address, length, (value + 1) * PAGE_SIZE, 1)
    elif call == "write":
        space.access(address, "write")
    else:
        getattr(space, call)(address, length)


@settings(max_examples=150, deadline=None)
@given(CALLS)
def test_mappings_never_overlap_and_the_counts_are_right(calls: list[tuple[str, int, int, int]]) -> None:
    space = AddressSpace(data=64 * PAGE_SIZE, address_space=80 * PAGE_SIZE)
    for call in calls:
        before = space.maps()
        try:
            perform(space, *call)
        except ProtectionError as error:
            assert error.reason is not None
            if not error.applied and call[0] not in ("munmap", "mmap", "mremap"):
                assert space.maps() == before
    mappings = list(space.mappings)
    assert all(mapping.start < mapping.stop for mapping in mappings)
    assert all(lower.stop <= upper.start for lower, upper in pairwise(mappings))
    usage = space._memory.usage
    assert usage.total == sum(mapping.size for mapping in mappings) // PAGE_SIZE
    assert usage.locked == sum(mapping.size for mapping in mappings if mapping.locked) // PAGE_SIZE
    writable = [mapping for mapping in mappings if "w" in mapping.permissions]
    assert usage.data == sum(mapping.size for mapping in writable) // PAGE_SIZE
    assert space.maps() == space.maps()


def test_thousands_of_mappings_stay_in_order_while_they_merge_and_split() -> None:
    dice = random.Random(1)
    space = AddressSpace()
    pages = 1500
    protections = [0] * pages
    space.mmap(BASE, pages * PAGE_SIZE, 0, PRIVATE)
    for count in range(6000):
        page = dice.randrange(pages)
        size = min(dice.choice((1, 1, 1, 2, 300 if count % 40 == 0 else 3)), pages - page)
        protection = dice.choice((1, 3, 5, 7))
        space.mprotect(BASE + page * PAGE_SIZE, size * PAGE_SIZE, protection)
        protections[page : page + size] = [protection] * size
        if dice.random() < 0.2:
            space.munmap(BASE + page * PAGE_SIZE, size * PAGE_SIZE)
            space.mmap(BASE + page * PAGE_SIZE, size * PAGE_SIZE, protection, PRIVATE)
        if count % 100 == 0:
            mappings = space._memory.mappings
            check_against(mappings, [mapping.start for mapping in mappings])
            for number in range(pages):
                found = mappings.at(BASE + number * PAGE_SIZE)
                assert found is not None
                assert int(found.prot) == protections[number]
