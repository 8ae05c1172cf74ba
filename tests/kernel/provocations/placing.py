"""mmap, munmap, mremap, brk and the files in memory."""

import fcntl
import os
import resource

from memprot import PAGE_SIZE, Prot, Reason, calls
from memprot.calls import DenyWriteExecute, MapFlag, MemfdFlag, RemapFlag
from tests.kernel.provocations.case import (
    ANONYMOUS,
    Collection,
    file_of,
    fill_mappings,
    give_up_privileges,
    in_use,
    mapped,
    noexec_file,
    with_hole,
)

CASES = Collection()
provocation = CASES.provocation

RW = Prot.READ | Prot.WRITE


@provocation("mmap", "EINVAL", Reason.BAD_ARGUMENT, "the length is 0")
def no_length() -> None:
    calls.mmap(0, 0, RW, ANONYMOUS)


@provocation("mmap", "EINVAL", Reason.MISALIGNED, "the offset is no multiple of the page size")
def odd_offset() -> None:
    calls.mmap(0, PAGE_SIZE, 1, MapFlag.PRIVATE, file_of(), 1)


@provocation("mmap", "EINVAL", Reason.UNKNOWN_FLAGS, "neither shared nor private")
def no_sharing() -> None:
    calls.mmap(0, PAGE_SIZE, RW, MapFlag.ANONYMOUS)


@provocation("mmap", "EINVAL", Reason.UNKNOWN_FLAGS, "`SHARED_VALIDATE` without a file")
def validated_without_a_file() -> None:
    calls.mmap(0, PAGE_SIZE, RW, MapFlag.SHARED_VALIDATE | MapFlag.ANONYMOUS)


@provocation("mmap", "EBADF", Reason.BAD_DESCRIPTOR, "the descriptor is not open")
def closed_file() -> None:
    calls.mmap(0, PAGE_SIZE, 1, MapFlag.PRIVATE, 12345)


@provocation("mmap", "ENODEV", Reason.BAD_DESCRIPTOR, "a kind of file that cannot be mapped")
def folder() -> None:
    calls.mmap(0, PAGE_SIZE, 1, MapFlag.PRIVATE, os.open("/", os.O_RDONLY))


@provocation("mmap", "EACCES", Reason.FILE_READ_ONLY, "shared and writable, of a file opened for reading only")
def read_only() -> None:
    calls.mmap(0, PAGE_SIZE, RW, MapFlag.SHARED, file_of())


@provocation("mmap", "EACCES", Reason.FILE_NOT_READABLE, "a file opened for writing only")
def write_only() -> None:
    calls.mmap(0, PAGE_SIZE, RW, MapFlag.SHARED, file_of(flags=os.O_WRONLY))


@provocation("mmap", "EPERM", Reason.MEMFD_SEAL, "shared and writable, of a memfd sealed against writing")
def sealed_file() -> None:
    file = calls.memfd_create("sealed", MemfdFlag.ALLOW_SEALING)
    os.ftruncate(file, PAGE_SIZE)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    calls.mmap(0, PAGE_SIZE, RW, MapFlag.SHARED, file)


@provocation("mmap", "EPERM", Reason.NOEXEC_MOUNT, "executable, of a file on a noexec file system", needs="root")
def noexec() -> None:
    calls.mmap(0, PAGE_SIZE, Prot.EXEC, MapFlag.PRIVATE, noexec_file())


@provocation("mmap", "EEXIST", Reason.OCCUPIED, "`FIXED_NOREPLACE` where something is mapped")
def occupied() -> None:
    calls.mmap(mapped(), PAGE_SIZE, RW, ANONYMOUS | MapFlag.FIXED_NOREPLACE)


@provocation("mmap", "EPERM", Reason.SEALED, "`FIXED` over sealed memory", needs="mseal")
def over_sealed() -> None:
    page = mapped()
    calls.mseal(page, PAGE_SIZE)
    calls.mmap(page, PAGE_SIZE, RW, ANONYMOUS | MapFlag.FIXED)


@provocation(
    "mmap",
    "EACCES",
    Reason.DENY_WRITE_EXECUTE,
    "writable and executable at once, after `set_mdwe`",
    needs="PR_SET_MDWE",
)
def denied() -> None:
    calls.set_mdwe(DenyWriteExecute.REFUSE_EXEC_GAIN)
    calls.mmap(0, PAGE_SIZE, RW | Prot.EXEC, ANONYMOUS)


@provocation("mmap", "ENOMEM", Reason.OUTSIDE, "more than all addresses")
def too_long() -> None:
    calls.mmap(0, 1 << 62, RW, ANONYMOUS)


@provocation("mmap", "ENOMEM", Reason.ADDRESS_SPACE_LIMIT, "more addresses than `RLIMIT_AS` allows")
def address_space() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (in_use("VmSize") + (64 << 20), resource.RLIM_INFINITY))
    calls.mmap(0, 1 << 30, RW, ANONYMOUS)


@provocation("mmap", "ENOMEM", Reason.DATA_LIMIT, "more private writable memory than `RLIMIT_DATA` allows")
def data() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (in_use("VmData") + (64 << 20), resource.RLIM_INFINITY))
    calls.mmap(0, 1 << 30, RW, ANONYMOUS)


@provocation("mmap", "ENOMEM", Reason.OVERCOMMIT, "more writable memory than the kernel promises")
def promised() -> None:
    calls.mmap(0, 1 << 44, RW, ANONYMOUS)


@provocation("mmap", "ENOMEM", Reason.MAPPING_LIMIT, "`vm.max_map_count` is reached")
def mappings() -> None:
    fill_mappings(spare=0)
    for page in range(3):  # one more than the limit is let through
        calls.mmap(0x2000_0000_0000 + 2 * page * PAGE_SIZE, PAGE_SIZE, RW, ANONYMOUS | MapFlag.FIXED)


@provocation("mmap", "EAGAIN", Reason.LOCK_LIMIT, "`LOCKED`, and more than `RLIMIT_MEMLOCK` allows", needs="root")
def locked() -> None:
    give_up_privileges()
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (PAGE_SIZE, PAGE_SIZE))
    calls.mmap(0, 64 * PAGE_SIZE, RW, ANONYMOUS | MapFlag.LOCKED)


@provocation("munmap", "EINVAL", Reason.MISALIGNED, "the address is no multiple of the page size")
def odd_unmap() -> None:
    calls.munmap(mapped() + 1, PAGE_SIZE)


@provocation("munmap", "EINVAL", Reason.BAD_ARGUMENT, "the length is 0")
def unmap_nothing() -> None:
    calls.munmap(mapped(), 0)


@provocation("munmap", "EINVAL", Reason.OUTSIDE, "addresses that no program can have")
def unmap_outside() -> None:
    calls.munmap(1 << 63, PAGE_SIZE)


@provocation("munmap", "EPERM", Reason.SEALED, "the range holds sealed memory", needs="mseal")
def unmap_sealed() -> None:
    page = mapped()
    calls.mseal(page, PAGE_SIZE)
    calls.munmap(page, PAGE_SIZE)


@provocation("munmap", "ENOMEM", Reason.MAPPING_LIMIT, "a mapping would be split, and `vm.max_map_count` is reached")
def unmap_the_middle() -> None:
    start = mapped(3)
    fill_mappings(spare=0)
    calls.munmap(start + PAGE_SIZE, PAGE_SIZE)


@provocation("mremap", "EINVAL", Reason.UNKNOWN_FLAGS, "flags that mean nothing")
def remap_flags() -> None:
    calls.mremap(mapped(), PAGE_SIZE, PAGE_SIZE, 1 << 20)


@provocation("mremap", "EINVAL", Reason.BAD_ARGUMENT, "old and new range overlap, `FIXED` without `MAYMOVE`, no size")
def remap_overlap() -> None:
    start = mapped(2)
    calls.mremap(start, 2 * PAGE_SIZE, 2 * PAGE_SIZE, RemapFlag.MAYMOVE | RemapFlag.FIXED, start + PAGE_SIZE)


@provocation("mremap", "EFAULT", Reason.HOLE, "nothing is mapped there")
def remap_hole() -> None:
    calls.mremap(with_hole() + PAGE_SIZE, PAGE_SIZE, 2 * PAGE_SIZE, RemapFlag.MAYMOVE)


@provocation("mremap", "ENOMEM", Reason.OCCUPIED, "no room to grow, without `MAYMOVE`")
def remap_in_place() -> None:
    start = mapped(2)
    calls.mprotect(start + PAGE_SIZE, PAGE_SIZE, 1)
    calls.mremap(start, PAGE_SIZE, 2 * PAGE_SIZE)


@provocation("mremap", "EPERM", Reason.SEALED, "the memory is sealed", needs="mseal")
def remap_sealed() -> None:
    page = mapped()
    calls.mseal(page, PAGE_SIZE)
    calls.mremap(page, PAGE_SIZE, 2 * PAGE_SIZE, RemapFlag.MAYMOVE)


@provocation("mremap", "ENOMEM", Reason.MAPPING_LIMIT, "a move, a few mappings short of `vm.max_map_count`")
def remap_at_the_limit() -> None:
    page = mapped()
    fill_mappings(spare=2)
    calls.mremap(page, PAGE_SIZE, 2 * PAGE_SIZE, RemapFlag.MAYMOVE | RemapFlag.FIXED, 0x2000_0000_0000)


@provocation("brk", "ENOMEM", Reason.DATA_LIMIT, "a larger heap than `RLIMIT_DATA` allows")
def heap_limit() -> None:
    now = calls.brk()
    resource.setrlimit(resource.RLIMIT_DATA, (in_use("VmData"), resource.RLIM_INFINITY))
    calls.brk(now + (256 << 20))


@provocation("brk", "ENOMEM", Reason.BAD_ARGUMENT, "an end before the heap's start")
def heap_below() -> None:
    calls.brk(PAGE_SIZE)


@provocation("memfd_create", "EINVAL", Reason.UNKNOWN_FLAGS, "flags that mean nothing")
def memfd_flags() -> None:
    calls.memfd_create("x", 1 << 20)


@provocation("memfd_create", "EINVAL", Reason.BAD_ARGUMENT, "a name of more than 249 bytes")
def memfd_name() -> None:
    calls.memfd_create("x" * 250)


@provocation("memfd_create", "EMFILE", Reason.DESCRIPTOR_LIMIT, "no descriptor is left")
def memfd_limit() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    calls.memfd_create("x")


@provocation("memfd_create", "ENODEV", Reason.NOT_SUPPORTED, "huge pages of a size that this kernel does not have")
def memfd_of_huge_pages() -> None:
    calls.memfd_create("x", MemfdFlag.HUGETLB | 33 << 26)


@provocation("shm_open", "EINVAL", Reason.BAD_ARGUMENT, "a name with a slash within, or none")
def name_with_a_slash() -> None:
    calls.shm_open("/memprot/provocation", os.O_RDWR)


@provocation("shm_unlink", "EISDIR", Reason.BAD_ARGUMENT, "a folder in /dev/shm")
def unlink_a_folder() -> None:
    name = f"memprot-provocation-{os.getpid()}"
    os.mkdir(f"/dev/shm/{name}")
    try:
        calls.shm_unlink(name)
    finally:
        os.rmdir(f"/dev/shm/{name}")


@provocation("shm_open", "ENOENT", Reason.BAD_ARGUMENT, "there is no such memory, and `O_CREAT` is missing")
def no_such_memory() -> None:
    calls.shm_open("/memprot-provocation-that-is-not-there", os.O_RDONLY)
