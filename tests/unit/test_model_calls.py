"""The model's other calls: mmap, munmap, mremap, madvise, mlock, brk, and what a child process gets."""

import errno
from pathlib import Path

import pytest

from memprot import PAGE_SIZE, ProtectionError, Reason
from memprot.flags import Advice, MapFlag
from memprot.model import AddressSpace, File
from memprot.model.file import F_SEAL_WRITE

START = 0x100000
BASE = 0x7FFFF7FFF000
ANONYMOUS = MapFlag.PRIVATE | MapFlag.ANONYMOUS
PRIVATE = ANONYMOUS | MapFlag.FIXED
MAYMOVE, FIXED, DONTUNMAP = 1, 2, 4
HUGE = 2 << 20


def page(number: int) -> int:
    return START + number * PAGE_SIZE


def space_of(pages: int, prot: int = 3, flags: int = PRIVATE, **limits: int) -> AddressSpace:
    space = AddressSpace(**limits)
    space.mmap(START, pages * PAGE_SIZE, prot, flags)
    return space


def lines(space: AddressSpace) -> list[str]:
    return [
        f"{(mapping.start - START) // PAGE_SIZE}-{(mapping.stop - START) // PAGE_SIZE} {mapping.permissions}"
        for mapping in space.mappings
    ]


def test_mappings_are_placed_from_the_top_and_fill_holes() -> None:
    space = AddressSpace()
    first = space.mmap(0, 3 * PAGE_SIZE, 3, ANONYMOUS)
    assert first == BASE - 3 * PAGE_SIZE
    assert space.mmap(0, PAGE_SIZE, 1, ANONYMOUS) == first - PAGE_SIZE
    space.munmap(first + PAGE_SIZE, PAGE_SIZE)
    assert space.mmap(0, PAGE_SIZE, 1, ANONYMOUS) == first + PAGE_SIZE
    assert space.mmap(0, PAGE_SIZE, 1, ANONYMOUS) == first - 2 * PAGE_SIZE


def test_a_wish_is_granted_where_it_is_free_and_rounded_down() -> None:
    space = AddressSpace()
    assert space.mmap(START + 5, PAGE_SIZE, 3, ANONYMOUS) == START
    assert space.mmap(START, PAGE_SIZE, 3, ANONYMOUS) == BASE - PAGE_SIZE
    assert space.mmap(0x1000, PAGE_SIZE, 3, ANONYMOUS) == 0x10000


def test_nothing_is_placed_close_below_a_stack() -> None:
    space = AddressSpace()
    space.mmap(START + HUGE, PAGE_SIZE, 3, PRIVATE | MapFlag.GROWSDOWN)
    assert space.mmap(START + HUGE - 257 * PAGE_SIZE, PAGE_SIZE, 3, ANONYMOUS) == START + HUGE - 257 * PAGE_SIZE
    assert space.mmap(START + HUGE - 200 * PAGE_SIZE, PAGE_SIZE, 3, ANONYMOUS) == BASE - PAGE_SIZE


def test_holes_inside_the_gap_below_a_stack_are_passed_over_when_the_gap_is_in_the_way() -> None:
    space = AddressSpace(mmap_base=page(1000))
    space.mmap(page(990), 10 * PAGE_SIZE, 3, PRIVATE | MapFlag.GROWSDOWN)
    space.mmap(page(980), 5 * PAGE_SIZE, 1, PRIVATE)
    space.mmap(page(970), 8 * PAGE_SIZE, 1, PRIVATE)
    # Five pages directly below the stack do not count, and two more below them are not looked at.
    assert space.mmap(0, PAGE_SIZE, 1, ANONYMOUS) == page(990 - 256 - 1)
    space.mprotect(page(990), 10 * PAGE_SIZE, 1)
    space.mmap(page(985), 5 * PAGE_SIZE, 1, PRIVATE)
    # With nothing free directly below the stack the gap is not asked for.
    assert space.mmap(0, PAGE_SIZE, 1, ANONYMOUS) == page(979)


def test_large_private_memory_is_aligned_for_huge_pages() -> None:
    space = AddressSpace()
    assert space.mmap(0, HUGE, 3, ANONYMOUS) % HUGE == 0
    assert space.mmap(0, HUGE + PAGE_SIZE, 3, ANONYMOUS) % HUGE


def test_low_addresses_are_found_from_the_bottom() -> None:
    space = AddressSpace()
    flags = ANONYMOUS | 0x40
    assert [space.mmap(0, PAGE_SIZE, prot, flags) for prot in (1, 3)] == [0x40000000, 0x40001000]


@pytest.mark.parametrize(
    ("addr", "length", "prot", "flags", "file", "offset", "number", "reason"),
    [
        (0, 0, 3, ANONYMOUS, None, 1, errno.EINVAL, Reason.MISALIGNED),
        (0, 0, 3, MapFlag.PRIVATE, None, 0, errno.EBADF, Reason.BAD_DESCRIPTOR),
        (0, 0, 3, ANONYMOUS, None, 0, errno.EINVAL, Reason.BAD_ARGUMENT),
        (0, 2**64 - 1, 3, ANONYMOUS, None, 0, errno.ENOMEM, Reason.RANGE_WRAPS),
        (0, 2**50, 3, ANONYMOUS, None, 0, errno.ENOMEM, Reason.OUTSIDE),
        (START + 1, PAGE_SIZE, 3, PRIVATE, None, 0, errno.EINVAL, Reason.MISALIGNED),
        (0, PAGE_SIZE, 3, PRIVATE, None, 0, errno.EPERM, Reason.NOT_PERMITTED),
        (0, PAGE_SIZE, 3, MapFlag.ANONYMOUS, None, 0, errno.EINVAL, Reason.UNKNOWN_FLAGS),
        (0, PAGE_SIZE, 3, MapFlag.ANONYMOUS | 3, None, 0, errno.EINVAL, Reason.UNKNOWN_FLAGS),
        (0, PAGE_SIZE, 3, 3 | 1 << 31, File("f", 1), 0, errno.EOPNOTSUPP, Reason.UNKNOWN_FLAGS),
        (0, PAGE_SIZE, 3, MapFlag.SHARED, File("f", 1, writable=False), 0, errno.EACCES, Reason.FILE_READ_ONLY),
        (0, PAGE_SIZE, 1, MapFlag.SHARED, File("f", 1, readable=False), 0, errno.EACCES, Reason.FILE_NOT_READABLE),
        (0, PAGE_SIZE, 5, MapFlag.PRIVATE, File("f", 1, executable=False), 0, errno.EPERM, Reason.NOEXEC_MOUNT),
        (0, PAGE_SIZE, 3, MapFlag.SHARED, File("f", 1, seals=F_SEAL_WRITE), 0, errno.EPERM, Reason.MEMFD_SEAL),
    ],
)
def test_mmap_refuses(
    addr: int, length: int, prot: int, flags: int, file: File | None, offset: int, number: int, reason: Reason
) -> None:
    with pytest.raises(ProtectionError) as caught:
        AddressSpace().mmap(addr, length, prot, flags, -1 if file is None else file, offset)
    assert (caught.value.errno, caught.value.reason) == (number, reason)


def test_a_fixed_mapping_replaces_and_one_that_may_not_says_what_is_there() -> None:
    space = space_of(3)
    with pytest.raises(ProtectionError) as caught:
        space.mmap(START, 2 * PAGE_SIZE, 1, ANONYMOUS | MapFlag.FIXED_NOREPLACE)
    assert (caught.value.errno, caught.value.start, caught.value.stop) == (errno.EEXIST, START, page(2))
    space.mmap(page(1), PAGE_SIZE, 1, PRIVATE)
    assert lines(space) == ["0-1 rw-p", "1-2 r--p", "2-3 rw-p"]


def test_shared_memory_without_a_file_has_one_in_the_maps() -> None:
    space = space_of(1, flags=MapFlag.SHARED | MapFlag.ANONYMOUS | MapFlag.FIXED)
    assert space.maps().endswith(" /dev/zero (deleted)\n")
    assert space.maps().index("/dev/zero") == Path("/proc/self/maps").read_text().splitlines()[0].index("/")


def test_unmapping_nothing_succeeds_and_unmapping_no_pages_does_not() -> None:
    space = AddressSpace()
    space.munmap(START, PAGE_SIZE)
    for address, length in ((START, 0), (START + 1, PAGE_SIZE), (START, 2**64 - 1), (2**63, PAGE_SIZE)):
        with pytest.raises(ProtectionError) as caught:
            space.munmap(address, length)
        assert caught.value.errno == errno.EINVAL


def test_a_mapping_grows_in_place_or_moves_with_its_pages() -> None:
    space = space_of(2)
    space.access(START, "write")
    assert space.mremap(START, 2 * PAGE_SIZE, 4 * PAGE_SIZE) == START
    space.mmap(page(4), PAGE_SIZE, 1, PRIVATE)
    with pytest.raises(ProtectionError) as caught:
        space.mremap(START, 4 * PAGE_SIZE, 5 * PAGE_SIZE)
    assert caught.value.reason is Reason.OCCUPIED
    moved = space.mremap(START, 4 * PAGE_SIZE, 5 * PAGE_SIZE, MAYMOVE)
    assert moved == BASE - 5 * PAGE_SIZE
    assert space.walk(moved).present
    assert not space.walk(START).present
    assert space.mremap(moved, 5 * PAGE_SIZE, PAGE_SIZE) == moved
    assert [mapping.size for mapping in space.mappings] == [PAGE_SIZE, PAGE_SIZE]


def test_a_move_may_take_several_mappings_and_the_holes_between_them() -> None:
    space = space_of(5)
    space.mprotect(page(1), PAGE_SIZE, 1)
    space.munmap(page(3), PAGE_SIZE)
    space.mremap(START, 5 * PAGE_SIZE, 5 * PAGE_SIZE, MAYMOVE | FIXED, page(10))
    assert lines(space) == ["10-11 rw-p", "11-12 r--p", "12-13 rw-p", "14-15 rw-p"]


def test_the_old_mapping_can_stay_without_its_pages() -> None:
    space = space_of(1)
    space.access(START, "write")
    moved = space.mremap(START, PAGE_SIZE, PAGE_SIZE, MAYMOVE | DONTUNMAP, page(4))
    assert moved == page(4)
    assert (space.walk(START).present, space.walk(moved).present) == (False, True)


def test_a_length_of_zero_maps_shared_memory_twice() -> None:
    space = space_of(2, flags=MapFlag.SHARED | MapFlag.ANONYMOUS | MapFlag.FIXED)
    second = space.mremap(START, 0, 2 * PAGE_SIZE, MAYMOVE)
    assert [mapping.file for mapping in space.mappings] == [space.mappings[0].file] * 2
    assert second == BASE - 2 * PAGE_SIZE
    with pytest.raises(ProtectionError) as caught:
        space_of(2).mremap(START, 0, PAGE_SIZE, MAYMOVE)
    assert (caught.value.errno, caught.value.reason) == (errno.EINVAL, Reason.SPECIAL_MAPPING)


@pytest.mark.parametrize(
    ("addr", "old", "new", "flags", "target", "number", "reason"),
    [
        (START, PAGE_SIZE, PAGE_SIZE, 8, 0, errno.EINVAL, Reason.UNKNOWN_FLAGS),
        (START + 1, PAGE_SIZE, PAGE_SIZE, 0, 0, errno.EINVAL, Reason.MISALIGNED),
        (START, PAGE_SIZE, 0, 0, 0, errno.EINVAL, Reason.BAD_ARGUMENT),
        (START, PAGE_SIZE, PAGE_SIZE, FIXED, page(9), errno.EINVAL, Reason.BAD_ARGUMENT),
        (START, PAGE_SIZE, PAGE_SIZE, FIXED | MAYMOVE, START, errno.EINVAL, Reason.BAD_ARGUMENT),
        (page(9), PAGE_SIZE, 2 * PAGE_SIZE, MAYMOVE, 0, errno.EFAULT, Reason.HOLE),
        (START, 3 * PAGE_SIZE, 4 * PAGE_SIZE, MAYMOVE, 0, errno.EFAULT, Reason.HOLE),
    ],
)
def test_mremap_refuses(addr: int, old: int, new: int, flags: int, target: int, number: int, reason: Reason) -> None:
    space = space_of(2)
    with pytest.raises(ProtectionError) as caught:
        space.mremap(addr, old, new, flags, target)
    assert (caught.value.errno, caught.value.reason) == (number, reason)
    assert lines(space) == ["0-2 rw-p"]


def test_a_lock_splits_a_mapping_and_brings_its_pages_in() -> None:
    space = space_of(3)
    space.mlock(page(1) + 7, 1)
    assert [mapping.locked for mapping in space.mappings] == [False, True, False]
    assert space.walk(page(1)).present
    with pytest.raises(ProtectionError) as caught:
        space.madvise(START, 3 * PAGE_SIZE, Advice.GUARD_INSTALL)
    error = caught.value
    assert (error.errno, error.reason, error.start, error.applied) == (
        errno.EINVAL,
        Reason.LOCKED,
        page(1),
        ((START, page(1)),),
    )
    space.munlock(START, 3 * PAGE_SIZE)
    assert not any(mapping.locked for mapping in space.mappings)


def test_a_lock_reaches_up_to_a_hole_and_holds_what_it_cannot_bring_in() -> None:
    space = space_of(2)
    with pytest.raises(ProtectionError) as caught:
        space.mlock(START, 4 * PAGE_SIZE)
    assert (caught.value.errno, caught.value.reason, caught.value.start) == (errno.ENOMEM, Reason.HOLE, page(2))
    assert space.mappings[0].locked
    space = space_of(2, 0)
    with pytest.raises(ProtectionError) as caught:
        space.mlock(START, PAGE_SIZE)
    assert (caught.value.errno, caught.value.reason) == (errno.ENOMEM, Reason.BAD_ARGUMENT)
    assert space.mappings[0].locked


def test_a_request_for_more_than_the_machine_has_is_refused() -> None:
    space = AddressSpace(memory=4 * PAGE_SIZE)
    space.mmap(START, 4 * PAGE_SIZE, 3, PRIVATE)
    space.mmap(page(4), 8 * PAGE_SIZE, 1, PRIVATE)
    for call in (
        lambda: space.mprotect(page(4), 5 * PAGE_SIZE, 3),
        lambda: space.mmap(0, 5 * PAGE_SIZE, 3, ANONYMOUS),
        lambda: space.mremap(START, 4 * PAGE_SIZE, 9 * PAGE_SIZE, MAYMOVE),
    ):
        with pytest.raises(ProtectionError) as caught:
            call()
        assert (caught.value.errno, caught.value.reason) == (errno.ENOMEM, Reason.OVERCOMMIT)
    # What is replaced gives its promise back.
    space.mmap(START, 6 * PAGE_SIZE, 3, PRIVATE)


def test_the_limit_of_locked_memory_counts_what_is_locked_once() -> None:
    space = space_of(4, memlock=2 * PAGE_SIZE)
    space.mlock(START, 2 * PAGE_SIZE)
    space.mlock(START, 2 * PAGE_SIZE)
    with pytest.raises(ProtectionError) as caught:
        space.mlock(page(1), 2 * PAGE_SIZE)
    assert caught.value.reason is Reason.LOCK_LIMIT
    with pytest.raises(ProtectionError) as caught:
        space.mmap(0, PAGE_SIZE, 3, ANONYMOUS | MapFlag.LOCKED)
    assert caught.value.errno == errno.EAGAIN


def test_advice_goes_on_behind_a_hole_and_then_fails() -> None:
    space = space_of(3)
    space.munmap(page(1), PAGE_SIZE)
    for number in (0, 2):
        space.access(page(number), "write")
    with pytest.raises(ProtectionError) as caught:
        space.madvise(START, 3 * PAGE_SIZE, Advice.DONTNEED)
    error = caught.value
    assert (error.errno, error.start, error.stop) == (errno.ENOMEM, page(1), page(2))
    assert error.applied == ((START, page(1)), (page(2), page(3)))
    assert not any(space.walk(page(number)).present for number in (0, 2))


def test_the_heap_grows_shrinks_and_stops_before_a_mapping() -> None:
    space = AddressSpace(brk=START)
    assert space.brk() == START
    assert space.brk(page(2) + 1) == page(2) + 1
    assert space.maps().endswith("[heap]\n")
    assert lines(space) == ["0-3 rw-p"]
    space.mmap(page(6), PAGE_SIZE, 3, PRIVATE)
    assert space.brk(page(6)) == page(2) + 1
    assert space.brk(page(5)) == page(5)
    assert space.brk(page(1)) == page(1)
    assert space.brk(START - 1) == page(1)
    assert lines(space) == ["0-1 rw-p", "6-7 rw-p"]


def test_a_child_has_its_own_protections_and_copies_pages_when_it_writes() -> None:
    parent = space_of(2)
    parent.mlock(START, PAGE_SIZE)
    parent.access(page(1), "write")
    child = parent.fork()
    assert [mapping.locked for mapping in child.mappings] == [False, False]
    assert not parent.walk(page(1)).entries[-1].writable
    child.access(page(1), "write")
    assert child.walk(page(1)).entries[-1].writable
    assert not parent.walk(page(1)).entries[-1].writable
    child.mprotect(START, 2 * PAGE_SIZE, 1)
    assert parent.access(START, "write").ok


def test_a_child_gets_what_it_should() -> None:
    parent = space_of(4)
    for number in range(4):
        parent.access(page(number), "write")
    parent.madvise(START, PAGE_SIZE, Advice.DONTFORK)
    parent.madvise(page(1), PAGE_SIZE, Advice.WIPEONFORK)
    parent.madvise(page(3), PAGE_SIZE, Advice.GUARD_INSTALL)
    parent.set_mdwe(3)
    child = parent.fork()
    assert lines(child) == ["1-2 rw-p", "2-4 rw-p"]
    assert [child.walk(page(number)).present for number in (1, 2)] == [False, True]
    assert child.access(page(3), "read").code == "SEGV_MAPERR"
    assert child.get_mdwe() == 0


def test_two_processes_share_a_segment_each_with_its_own_protection() -> None:
    segment = File("/dev/shm/segment", PAGE_SIZE, device=(0, 22))
    writer, reader = AddressSpace(), AddressSpace()
    for space in (writer, reader):
        space.mmap(START, PAGE_SIZE, 3, MapFlag.SHARED | MapFlag.FIXED, segment)
    reader.mprotect(START, PAGE_SIZE, 1)
    assert writer.access(START, "write").ok
    assert reader.access(START, "write").code == "SEGV_ACCERR"
    segment.truncate(0)
    assert [space.access(START, "read").code for space in (writer, reader)] == ["BUS_ADRERR"] * 2
