"""The model's mprotect: the order of its checks, what it leaves when it fails, and which mappings it makes."""

import errno

import pytest

from memprot import PAGE_SIZE, Prot, ProtectionError, Reason
from memprot.flags import MapFlag
from memprot.model import AddressSpace, File
from memprot.model.file import F_SEAL_WRITE

START = 0x100000
PRIVATE = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED
SHARED = MapFlag.SHARED | MapFlag.FIXED
GROWSDOWN, GROWSUP = int(Prot.GROWSDOWN), int(Prot.GROWSUP)
READ_IMPLIES_EXEC = 0x0400000


def page(number: int) -> int:
    return START + number * PAGE_SIZE


def space_of(pages: int, prot: int = 3, **limits: int) -> AddressSpace:
    space = AddressSpace(**limits)
    space.mmap(START, pages * PAGE_SIZE, prot, PRIVATE)
    return space


def lines(space: AddressSpace) -> list[str]:
    return [
        f"{(mapping.start - START) // PAGE_SIZE}-{(mapping.stop - START) // PAGE_SIZE} {mapping.permissions}"
        for mapping in space.mappings
    ]


@pytest.mark.parametrize(
    ("address", "length", "prot", "number", "reason"),
    [
        # Each row has the faults of those below it too: the first in the order is told.
        (START + 1, 2**64 - 1, GROWSDOWN | GROWSUP | 1 << 40, errno.EINVAL, Reason.BOTH_GROWS),
        (START + 1, 2**64 - 1, 1 << 40, errno.EINVAL, Reason.MISALIGNED),
        (START, 2**64 - 1, 1 << 40, errno.ENOMEM, Reason.RANGE_WRAPS),
        (page(9), PAGE_SIZE, 1 << 40, errno.EINVAL, Reason.UNKNOWN_FLAGS),
        (page(9), PAGE_SIZE, GROWSDOWN | 1, errno.ENOMEM, Reason.HOLE),
        (START, PAGE_SIZE, GROWSDOWN | 1, errno.EINVAL, Reason.NOT_GROWING),
        (START, PAGE_SIZE, GROWSUP | 1, errno.EINVAL, Reason.NOT_GROWING),
    ],
)
def test_the_first_of_several_mistakes_is_told(
    address: int, length: int, prot: int, number: int, reason: Reason
) -> None:
    space = space_of(3)
    with pytest.raises(ProtectionError) as caught:
        space.mprotect(address, length, prot)
    assert (caught.value.errno, caught.value.reason) == (number, reason)
    assert lines(space) == ["0-3 rw-p"]


def test_an_empty_range_succeeds_whatever_the_flags_and_wherever_it_is() -> None:
    AddressSpace().mprotect(0x5000, 0, 1 << 40)


def test_what_comes_before_a_hole_stays_changed() -> None:
    space = space_of(5)
    space.munmap(page(3), PAGE_SIZE)
    with pytest.raises(ProtectionError) as caught:
        space.mprotect(page(1), 4 * PAGE_SIZE, Prot.READ)
    error = caught.value
    assert (error.errno, error.reason, error.start, error.stop) == (errno.ENOMEM, Reason.HOLE, page(3), page(4))
    assert error.applied == ((page(1), page(3)),)
    assert lines(space) == ["0-1 rw-p", "1-3 r--p", "4-5 rw-p"]


def test_a_mapping_is_split_and_becomes_one_again() -> None:
    space = space_of(4)
    space.mprotect(page(1), PAGE_SIZE, Prot.READ)
    assert lines(space) == ["0-1 rw-p", "1-2 r--p", "2-4 rw-p"]
    space.mprotect(page(1), PAGE_SIZE, 3)
    assert lines(space) == ["0-4 rw-p"]


def test_neighbours_that_were_written_apart_stay_two() -> None:
    space = AddressSpace()
    for number in (0, 2):
        space.mmap(page(number), PAGE_SIZE, 3, PRIVATE)
        space.access(page(number), "write")
    space.mmap(page(1), PAGE_SIZE, 1, PRIVATE)
    space.mprotect(page(1), PAGE_SIZE, 3)
    assert lines(space) == ["0-2 rw-p", "2-3 rw-p"]


def test_memory_that_was_never_written_gives_its_promise_back_and_merges() -> None:
    space = space_of(1, 0)
    space.mmap(page(1), PAGE_SIZE, 3, PRIVATE)
    space.mprotect(page(1), PAGE_SIZE, 0)
    assert lines(space) == ["0-2 ---p"]


def test_memory_that_was_written_keeps_its_promise_and_stays_apart() -> None:
    space = space_of(1, 0)
    space.mmap(page(1), PAGE_SIZE, 3, PRIVATE)
    space.access(page(1), "write")
    space.mprotect(page(1), PAGE_SIZE, 0)
    assert lines(space) == ["0-1 ---p", "1-2 ---p"]


def test_at_the_limit_a_boundary_may_move_but_nothing_may_split() -> None:
    space = space_of(4, max_map_count=2)
    space.mprotect(START, PAGE_SIZE, 1)
    space.mprotect(page(1), PAGE_SIZE, 1)
    assert lines(space) == ["0-2 r--p", "2-4 rw-p"]
    with pytest.raises(ProtectionError) as caught:
        space.mprotect(page(3), PAGE_SIZE, 0)
    assert (caught.value.errno, caught.value.reason) == (errno.ENOMEM, Reason.MAPPING_LIMIT)


def test_the_first_split_stays_when_there_is_no_room_for_the_second() -> None:
    space = space_of(4, max_map_count=2)
    with pytest.raises(ProtectionError):
        space.mprotect(page(1), PAGE_SIZE, 1)
    assert lines(space) == ["0-1 rw-p", "1-4 rw-p"]


def test_a_sealed_mapping_refuses_even_what_it_has_already() -> None:
    space = space_of(3)
    space.mseal(page(1), PAGE_SIZE)
    with pytest.raises(ProtectionError) as caught:
        space.mprotect(START, 3 * PAGE_SIZE, 3)
    error = caught.value
    assert (error.errno, error.reason, error.start, error.stop) == (errno.EPERM, Reason.SEALED, page(1), page(2))
    assert error.applied == ((START, page(1)),)
    with pytest.raises(ProtectionError) as caught:
        space.munmap(START, 3 * PAGE_SIZE)
    assert caught.value.reason is Reason.SEALED
    with pytest.raises(ProtectionError):
        space.mseal(page(2), 2 * PAGE_SIZE)
    assert [mapping.sealed for mapping in space.mappings] == [False, True, False]


@pytest.mark.parametrize(
    ("file", "flags", "prot", "number", "reason"),
    [
        (File("f", 9, writable=False), SHARED, 3, errno.EACCES, Reason.FILE_READ_ONLY),
        (File("f", 9, executable=False), SHARED, 5, errno.EACCES, Reason.NOEXEC_MOUNT),
        (File("f", 9, seals=F_SEAL_WRITE), SHARED, 3, errno.EACCES, Reason.MEMFD_SEAL),
    ],
)
def test_a_file_limits_what_a_mapping_may_become(
    file: File, flags: MapFlag, prot: int, number: int, reason: Reason
) -> None:
    space = AddressSpace()
    space.mmap(START, PAGE_SIZE, 1, flags, file)
    with pytest.raises(ProtectionError) as caught:
        space.mprotect(START, PAGE_SIZE, prot)
    assert (caught.value.errno, caught.value.reason) == (number, reason)


def test_a_private_mapping_of_a_read_only_file_may_be_written() -> None:
    space = AddressSpace()
    file = File("f", 9, writable=False)
    space.mmap(START, PAGE_SIZE, 1, MapFlag.PRIVATE | MapFlag.FIXED, file)
    space.mprotect(START, PAGE_SIZE, 3)
    assert space.access(START, "write").ok


def test_denying_write_and_execute_refuses_what_becomes_executable_but_not_what_is() -> None:
    space = space_of(2)
    space.mmap(page(2), PAGE_SIZE, 5, PRIVATE)
    space.set_mdwe(1)
    for address, prot in ((START, 5), (START, 7), (page(2), 7)):
        with pytest.raises(ProtectionError) as caught:
            space.mprotect(address, PAGE_SIZE, prot)
        assert (caught.value.errno, caught.value.reason) == (errno.EACCES, Reason.DENY_WRITE_EXECUTE)
    space.mprotect(page(2), PAGE_SIZE, 4)
    space.mmap(page(3), PAGE_SIZE, 5, PRIVATE)
    with pytest.raises(ProtectionError):
        space.mmap(page(4), PAGE_SIZE, 7, PRIVATE)


@pytest.mark.parametrize(("held", "bits", "number"), [(0, 2, errno.EINVAL), (0, 4, errno.EINVAL), (1, 0, errno.EPERM)])
def test_mdwe_is_set_once_and_with_sense(held: int, bits: int, number: int) -> None:
    space = AddressSpace()
    space.set_mdwe(held)
    with pytest.raises(ProtectionError) as caught:
        space.set_mdwe(bits)
    assert caught.value.errno == number
    space.set_mdwe(held)
    assert space.get_mdwe() == held


def test_read_implies_execute_where_execution_is_possible() -> None:
    space = space_of(1)
    assert space.personality(READ_IMPLIES_EXEC) == 0
    assert space.personality(0xFFFFFFFF) == READ_IMPLIES_EXEC
    space.mprotect(START, PAGE_SIZE, 1)
    space.mmap(page(1), PAGE_SIZE, 1, MapFlag.SHARED | MapFlag.FIXED, File("f", 9, executable=False))
    space.mprotect(page(1), PAGE_SIZE, 3)
    space.mmap(page(2), PAGE_SIZE, 2, PRIVATE)
    assert lines(space) == ["0-1 r-xp", "1-2 rw-s", "2-3 -w-p"]


def test_growsdown_begins_at_the_start_of_a_stack() -> None:
    space = AddressSpace()
    space.mmap(START, 4 * PAGE_SIZE, 3, PRIVATE | MapFlag.GROWSDOWN)
    space.mprotect(page(2), PAGE_SIZE, Prot.READ | Prot.GROWSDOWN)
    assert lines(space) == ["0-3 r--p", "3-4 rw-p"]


def test_a_data_limit_refuses_what_becomes_data_but_not_more_of_what_is() -> None:
    space = space_of(2, 1, data=PAGE_SIZE)
    with pytest.raises(ProtectionError) as caught:
        space.mprotect(START, 2 * PAGE_SIZE, 3)
    assert caught.value.reason is Reason.DATA_LIMIT
    space.mprotect(START, PAGE_SIZE, 3)


CALLS = {
    "mmap": 6,
    "munmap": 2,
    "mprotect": 3,
    "pkey_mprotect": 4,
    "pkey_alloc": 2,
    "pkey_free": 1,
    "mremap": 5,
    "madvise": 3,
    "mlock": 2,
    "mlock2": 3,
    "munlock": 2,
    "mseal": 3,
    "brk": 1,
    "set_mdwe": 1,
    "personality": 1,
}
EACH_ARGUMENT = [(call, place) for call, count in CALLS.items() for place in range(count)]


@pytest.mark.parametrize(("call", "place"), EACH_ARGUMENT)
def test_what_is_no_machine_word_is_refused(call: str, place: int) -> None:
    space = AddressSpace()
    before = space.maps()
    for value, error in (
        (True, TypeError),
        (1.0, TypeError),
        (None, TypeError),
        ("1", TypeError),
        (2**64, OverflowError),
        (-(2**63) - 1, OverflowError),
    ):
        if (call, place, value) == ("mremap", 4, None):
            continue
        arguments: list[object] = [0] * CALLS[call]
        arguments[place] = value
        with pytest.raises(error, match=r"must be an int, not|does not fit in 64 bits"):
            getattr(space, call)(*arguments)
    assert space.maps() == before


@pytest.mark.parametrize(("levels", "keys"), [(3, 16), (4, 8)])
def test_a_processor_that_is_none_is_refused(levels: int, keys: int) -> None:
    with pytest.raises(ValueError, match="not [38]"):
        AddressSpace(levels=levels, keys=keys)


def test_a_negative_number_is_the_word_that_it_stands_for() -> None:
    with pytest.raises(ProtectionError) as caught:
        AddressSpace().mprotect(-PAGE_SIZE, PAGE_SIZE, 1)
    assert caught.value.reason is Reason.RANGE_WRAPS
