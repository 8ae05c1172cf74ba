"""madvise, mlock and mseal."""

import os
import resource

from memprot import PAGE_SIZE, Reason, calls
from memprot.calls import Advice, MapFlag, SyncFlag
from tests.kernel.provocations.case import Collection, file_of, fill_mappings, give_up_privileges, mapped, with_hole

CASES = Collection()
provocation = CASES.provocation


@provocation("madvise", "EINVAL", Reason.UNKNOWN_FLAGS, "advice that this kernel does not have")
def unknown_advice() -> None:
    calls.madvise(mapped(), PAGE_SIZE, 12345)


@provocation("madvise", "EINVAL", Reason.MISALIGNED, "the address is no multiple of the page size")
def odd() -> None:
    calls.madvise(mapped() + 1, PAGE_SIZE, Advice.DONTNEED)


@provocation("madvise", "EINVAL", Reason.RANGE_WRAPS, "address and length together are more than 64 bits")
def wraps() -> None:
    calls.madvise(mapped(), -PAGE_SIZE, Advice.DONTNEED)


@provocation("madvise", "ENOMEM", Reason.HOLE, "nothing is mapped in a part of the range; all the rest took the advice")
def hole() -> None:
    calls.madvise(with_hole(), 3 * PAGE_SIZE, Advice.DONTNEED)


@provocation("madvise", "EINVAL", Reason.LOCKED, "`DONTNEED` on locked pages")
def locked() -> None:
    page = mapped()
    calls.mlock(page, PAGE_SIZE)
    calls.madvise(page, PAGE_SIZE, Advice.DONTNEED)


@provocation("madvise", "EINVAL", Reason.LOCKED, "`GUARD_INSTALL` on locked pages", needs="guards")
def guard_on_locked() -> None:
    page = mapped()
    calls.mlock(page, PAGE_SIZE)
    calls.madvise(page, PAGE_SIZE, Advice.GUARD_INSTALL)


@provocation("madvise", "EINVAL", Reason.SPECIAL_MAPPING, "`FREE` on the pages of a file")
def free_a_file() -> None:
    file = calls.memfd_create("x")
    os.ftruncate(file, PAGE_SIZE)
    calls.madvise(calls.mmap(0, PAGE_SIZE, 3, MapFlag.SHARED, file), PAGE_SIZE, Advice.FREE)


@provocation("madvise", "EINVAL", Reason.SPECIAL_MAPPING, "`WIPEONFORK` on shared memory, or on that of a file")
def wipe_shared() -> None:
    calls.madvise(mapped(flags=MapFlag.SHARED | MapFlag.ANONYMOUS), PAGE_SIZE, Advice.WIPEONFORK)


@provocation("madvise", "EINVAL", Reason.SPECIAL_MAPPING, "`REMOVE` where there is no file")
def hole_in_no_file() -> None:
    calls.madvise(mapped(), PAGE_SIZE, Advice.REMOVE)


@provocation("madvise", "EACCES", Reason.FILE_READ_ONLY, "`REMOVE` on a mapping that is not shared and writable")
def hole_in_a_private_mapping() -> None:
    calls.madvise(calls.mmap(0, PAGE_SIZE, 3, MapFlag.PRIVATE, file_of()), PAGE_SIZE, Advice.REMOVE)


@provocation(
    "madvise",
    "EINVAL",
    Reason.SPECIAL_MAPPING,
    "`POPULATE_WRITE` on memory that may not be written",
    needs="populating",
)
def populate_the_read_only() -> None:
    calls.madvise(mapped(1, 1), PAGE_SIZE, Advice.POPULATE_WRITE)


@provocation(
    "madvise", "EFAULT", Reason.BAD_ARGUMENT, "`POPULATE_READ` of a page beyond the end of the file", needs="populating"
)
def populate_beyond_the_end() -> None:
    address = calls.mmap(0, 2 * PAGE_SIZE, 1, MapFlag.PRIVATE, file_of())
    calls.madvise(address, 2 * PAGE_SIZE, Advice.POPULATE_READ)


@provocation("madvise", "EINVAL", Reason.SPECIAL_MAPPING, "`COLLAPSE` of less than a huge page", needs="collapsing")
def collapse_a_page() -> None:
    calls.madvise(mapped(), PAGE_SIZE, Advice.COLLAPSE)


@provocation("madvise", "EPERM", Reason.SEALED, "discarding what sealed read-only memory holds", needs="mseal")
def discard_sealed() -> None:
    page = mapped(1, 1)
    calls.mseal(page, PAGE_SIZE)
    calls.madvise(page, PAGE_SIZE, Advice.DONTNEED)


@provocation("mlock", "ENOMEM", Reason.HOLE, "nothing is mapped in a part of the range")
def lock_a_hole() -> None:
    calls.mlock(with_hole(), 3 * PAGE_SIZE)


@provocation("mlock", "ENOMEM", Reason.BAD_ARGUMENT, "memory that may not be read")
def lock_the_unreadable() -> None:
    calls.mlock(mapped(1, 0), PAGE_SIZE)


@provocation(
    "mlock", "ENOMEM", Reason.BAD_ARGUMENT, "a guard page, or one beyond the end of the file", needs="populating"
)
def lock_beyond_the_end() -> None:
    address = calls.mmap(0, 2 * PAGE_SIZE, 1, MapFlag.PRIVATE, file_of())
    calls.mlock(address, 2 * PAGE_SIZE)


@provocation("mlock", "ENOMEM", Reason.LOCK_LIMIT, "more than `RLIMIT_MEMLOCK` allows", needs="root")
def lock_too_much() -> None:
    give_up_privileges()
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (PAGE_SIZE, PAGE_SIZE))
    calls.mlock(mapped(8), 8 * PAGE_SIZE)


@provocation("mlock", "EPERM", Reason.LOCK_LIMIT, "`RLIMIT_MEMLOCK` is 0", needs="root")
def lock_nothing() -> None:
    give_up_privileges()
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    calls.mlock(mapped(), PAGE_SIZE)


@provocation("mlock", "ENOMEM", Reason.MAPPING_LIMIT, "a mapping would be split, and `vm.max_map_count` is reached")
def lock_the_middle() -> None:
    start = mapped(3)
    fill_mappings(spare=1)
    calls.mlock(start + PAGE_SIZE, PAGE_SIZE)


@provocation("mlock2", "EINVAL", Reason.UNKNOWN_FLAGS, "flags that mean nothing")
def lock_flags() -> None:
    calls.mlock2(mapped(), PAGE_SIZE, 1 << 20)


@provocation("mlockall", "EINVAL", Reason.UNKNOWN_FLAGS, "flags that mean nothing, or none")
def lock_all_flags() -> None:
    calls.mlockall(0)


@provocation("mincore", "ENOMEM", Reason.HOLE, "nothing is mapped in a part of the range")
def core_of_a_hole() -> None:
    calls.mincore(with_hole(), 3 * PAGE_SIZE)


@provocation("mincore", "ENOMEM", Reason.OUTSIDE, "addresses that no program can have, even for no length")
def core_of_nothing_outside() -> None:
    calls.mincore(1 << 63, 0)


@provocation("msync", "EINVAL", Reason.UNKNOWN_FLAGS, "flags that mean nothing, or exclude each other")
def sync_flags() -> None:
    calls.msync(mapped(), PAGE_SIZE, SyncFlag.ASYNC | SyncFlag.SYNC)


@provocation("msync", "ENOMEM", Reason.HOLE, "nothing is mapped in a part of the range")
def sync_a_hole() -> None:
    calls.msync(with_hole(), 3 * PAGE_SIZE, SyncFlag.SYNC)


@provocation("msync", "EBUSY", Reason.LOCKED, "`INVALIDATE` of locked pages")
def sync_locked() -> None:
    page = mapped()
    calls.mlock(page, PAGE_SIZE)
    calls.msync(page, PAGE_SIZE, SyncFlag.INVALIDATE)


@provocation("process_madvise", "EBADF", Reason.BAD_DESCRIPTOR, "the descriptor is of no process")
def advise_nobody() -> None:
    page = mapped()
    calls.process_madvise(12345, [(page, page + PAGE_SIZE)], Advice.COLD)


@provocation("process_madvise", "EINVAL", Reason.UNKNOWN_FLAGS, "flags: there are none")
def advise_flags() -> None:
    page = mapped()
    calls.process_madvise(os.pidfd_open(os.getpid()), [(page, page + PAGE_SIZE)], Advice.COLD, 1)


@provocation("process_madvise", "ENOMEM", Reason.HOLE, "nothing is mapped in a part of the first range")
def advise_a_hole() -> None:
    start = with_hole()
    calls.process_madvise(os.pidfd_open(os.getpid()), [(start, start + 3 * PAGE_SIZE)], Advice.COLD)


@provocation("process_madvise", "EFAULT", Reason.OUTSIDE, "addresses that no program can have")
def advise_outside() -> None:
    calls.process_madvise(os.pidfd_open(os.getpid()), [(1 << 63, (1 << 63) + PAGE_SIZE)], Advice.COLD)


@provocation("set_name", "EINVAL", Reason.NOT_SUPPORTED, "the kernel keeps no names", needs="a kernel without names")
def unnamed() -> None:
    calls.set_name(mapped(), PAGE_SIZE, "name")


@provocation("set_name", "EINVAL", Reason.MISALIGNED, "the address is no multiple of the page size")
def odd_name() -> None:
    calls.set_name(mapped() + 1, PAGE_SIZE, "name")


@provocation("mbind", "EINVAL", Reason.MISALIGNED, "the address is no multiple of the page size")
def odd_bind() -> None:
    calls.mbind(mapped() + 1, PAGE_SIZE, 0, [])


@provocation("mbind", "EINVAL", Reason.BAD_ARGUMENT, "a mode, flags or nodes that do not go together")
def bind_nowhere() -> None:
    calls.mbind(mapped(), PAGE_SIZE, 77, [])


@provocation("get_mempolicy", "EFAULT", Reason.HOLE, "nothing is mapped at the address")
def policy_of_a_hole() -> None:
    calls.get_mempolicy(with_hole() + PAGE_SIZE)


@provocation("move_pages", "EINVAL", Reason.UNKNOWN_FLAGS, "flags that mean nothing")
def move_flags() -> None:
    calls.move_pages(0, [mapped()], None, 77)


@provocation("move_pages", "ENODEV", Reason.BAD_ARGUMENT, "a node that is not there")
def move_nowhere() -> None:
    calls.move_pages(0, [mapped()], [1000])


@provocation("move_pages", "ESRCH", Reason.BAD_ARGUMENT, "a process that is not there")
def move_nobodys() -> None:
    calls.move_pages(1 << 22, [mapped()])


@provocation("mseal", "EINVAL", Reason.UNKNOWN_FLAGS, "flags: there are none", needs="mseal")
def seal_flags() -> None:
    calls.mseal(mapped(), PAGE_SIZE, 1)


@provocation("mseal", "EINVAL", Reason.MISALIGNED, "the address is no multiple of the page size", needs="mseal")
def seal_odd() -> None:
    calls.mseal(mapped() + 1, PAGE_SIZE)


@provocation("mseal", "ENOMEM", Reason.HOLE, "nothing is mapped in a part; nothing is sealed", needs="mseal")
def seal_a_hole() -> None:
    calls.mseal(with_hole(), 3 * PAGE_SIZE)
