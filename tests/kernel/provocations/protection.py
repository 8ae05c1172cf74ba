"""mprotect, pkey_mprotect, the keys, and what a process denies itself."""

import errno
import fcntl
import os
import resource
from contextlib import suppress

from memprot import PAGE_SIZE, AddressSpace, Prot, ProtectionError, Reason, calls
from memprot.calls import DenyWriteExecute, MapFlag, MemfdFlag
from tests.kernel.provocations.case import (
    ANONYMOUS,
    Collection,
    file_of,
    fill_mappings,
    filter_call,
    in_use,
    mapped,
    noexec_file,
    with_hole,
)

CASES = Collection()
provocation = CASES.provocation

MPROTECT = {"x86_64": 10, "aarch64": 226}
_SEAL_FUTURE_WRITE = 0x0010


@provocation("mprotect", "EINVAL", Reason.BOTH_GROWS, "`GROWSDOWN` and `GROWSUP` together")
def both_grows() -> None:
    calls.mprotect(mapped(), PAGE_SIZE, Prot.GROWSDOWN | Prot.GROWSUP)


@provocation("mprotect", "EINVAL", Reason.MISALIGNED, "the address is no multiple of the page size")
def misaligned() -> None:
    calls.mprotect(mapped() + 1, PAGE_SIZE, Prot.READ)


@provocation("mprotect", "ENOMEM", Reason.RANGE_WRAPS, "address and length together are more than 64 bits")
def wraps() -> None:
    calls.mprotect(mapped(), -1, Prot.READ)


@provocation("mprotect", "EINVAL", Reason.UNKNOWN_FLAGS, "bits of the protection that mean nothing here")
def unknown_flags() -> None:
    calls.mprotect(mapped(), PAGE_SIZE, 1 << 32 | 5)


@provocation("mprotect", "EINVAL", Reason.NOT_GROWING, "`GROWSDOWN` for a mapping that is no stack")
def not_growing() -> None:
    calls.mprotect(mapped(), PAGE_SIZE, Prot.GROWSDOWN)


@provocation("mprotect", "ENOMEM", Reason.OUTSIDE, "addresses that no program can have")
def outside() -> None:
    calls.mprotect(1 << 63, PAGE_SIZE, Prot.READ)


@provocation("mprotect", "ENOMEM", Reason.HOLE, "nothing is mapped in a part of the range; what lies before is changed")
def hole() -> None:
    calls.mprotect(with_hole(), 3 * PAGE_SIZE, Prot.READ)


@provocation("mprotect", "EACCES", Reason.FILE_READ_ONLY, "write, of a shared file that was opened for reading only")
def file_read_only() -> None:
    calls.mprotect(calls.mmap(0, PAGE_SIZE, 1, MapFlag.SHARED, file_of()), PAGE_SIZE, Prot.WRITE)


@provocation("mprotect", "EACCES", Reason.MEMFD_SEAL, "write, of a memfd sealed against writing")
def memfd_seal() -> None:
    file = calls.memfd_create("sealed", MemfdFlag.ALLOW_SEALING)
    os.ftruncate(file, PAGE_SIZE)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEAL_FUTURE_WRITE)
    calls.mprotect(calls.mmap(0, PAGE_SIZE, 1, MapFlag.SHARED, file), PAGE_SIZE, Prot.WRITE)


@provocation("mprotect", "EACCES", Reason.NOEXEC_MOUNT, "execute, of a file on a noexec file system", needs="root")
def noexec_mount() -> None:
    calls.mprotect(calls.mmap(0, PAGE_SIZE, 1, MapFlag.PRIVATE, noexec_file()), PAGE_SIZE, Prot.EXEC)


@provocation("mprotect", "EACCES", Reason.SPECIAL_MAPPING, "what the kernel mapped for itself, such as `[vvar]`")
def special_mapping() -> None:
    vvar = next(mapping for mapping in AddressSpace() if mapping.kind == "vvar")
    calls.mprotect(vvar.start, PAGE_SIZE, Prot.WRITE)


@provocation(
    "mprotect",
    "EACCES",
    Reason.DENY_WRITE_EXECUTE,
    "write and execute, or execute where it was not, after `set_mdwe`",
    needs="PR_SET_MDWE",
)
def deny_write_execute() -> None:
    page = mapped()
    calls.set_mdwe(DenyWriteExecute.REFUSE_EXEC_GAIN)
    calls.mprotect(page, PAGE_SIZE, Prot.READ | Prot.EXEC)


@provocation("mprotect", "EACCES", Reason.EXECMEM, "SELinux: memory without a file made executable", needs="SELinux")
def execmem() -> None:
    calls.mprotect(mapped(), PAGE_SIZE, Prot.READ | Prot.EXEC)


@provocation("mprotect", "EPERM", Reason.SEALED, "the mapping is sealed", needs="mseal")
def is_sealed() -> None:
    page = mapped()
    calls.mseal(page, PAGE_SIZE)
    calls.mprotect(page, PAGE_SIZE, Prot.READ)


@provocation("mprotect", "EPERM", Reason.SECURITY_MODULE, "a seccomp filter or a security module refuses")
def filtered() -> None:
    page = mapped()
    filter_call(MPROTECT[os.uname().machine], errno.EPERM)
    calls.mprotect(page, PAGE_SIZE, Prot.READ)


@provocation("mprotect", "ENOMEM", Reason.DATA_LIMIT, "more private writable memory than `RLIMIT_DATA` allows")
def data_limit() -> None:
    size = 64 << 20
    start = mapped(size // PAGE_SIZE, 1)
    resource.setrlimit(resource.RLIMIT_DATA, (in_use("VmData") + size // 2, resource.RLIM_INFINITY))
    calls.mprotect(start, size, Prot.READ | Prot.WRITE)


@provocation("mprotect", "ENOMEM", Reason.OVERCOMMIT, "more writable memory than the kernel promises")
def overcommit() -> None:
    size = 1 << 44
    start = calls.mmap(0, size, 0, ANONYMOUS)
    calls.mprotect(start, size, Prot.READ | Prot.WRITE)


@provocation("mprotect", "ENOMEM", Reason.MAPPING_LIMIT, "a mapping would be split, and `vm.max_map_count` is reached")
def mapping_limit() -> None:
    start = mapped(3)
    fill_mappings(spare=1)
    calls.mprotect(start + PAGE_SIZE, PAGE_SIZE, Prot.READ)


@provocation(
    "pkey_mprotect", "EINVAL", Reason.NO_KEYS, "CPU or kernel have no keys", needs="a CPU without protection keys"
)
def keyless() -> None:
    calls.pkey_mprotect(mapped(), PAGE_SIZE, Prot.READ, 1)


@provocation(
    "pkey_mprotect", "EINVAL", Reason.KEY_NOT_ALLOCATED, "the key has not been allocated", needs="protection keys"
)
def key_not_allocated() -> None:
    calls.pkey_mprotect(mapped(), PAGE_SIZE, Prot.READ, 9)


@provocation("pkey_alloc", "EINVAL", Reason.UNKNOWN_FLAGS, "flags, or rights that do not exist")
def key_flags() -> None:
    calls.pkey_alloc(1, 0)


@provocation(
    "pkey_alloc",
    "ENOSPC",
    Reason.NO_KEYS,
    "CPU or kernel have no keys; EINVAL for the first call of a process",
    needs="a CPU without protection keys",
)
def no_keys() -> None:
    with suppress(ProtectionError):
        calls.pkey_alloc(0, 0)
    calls.pkey_alloc(0, 0)


@provocation("pkey_alloc", "ENOSPC", Reason.NO_KEY_LEFT, "every key is in use", needs="protection keys")
def no_key_left() -> None:
    for _ in range(17):
        calls.pkey_alloc(0, 0)


@provocation("pkey_free", "EINVAL", Reason.KEY_NOT_ALLOCATED, "the key has not been allocated", needs="protection keys")
def free_unallocated() -> None:
    calls.pkey_free(9)


@provocation("pkey_free", "EINVAL", Reason.NO_KEYS, "CPU or kernel have no keys", needs="a CPU without protection keys")
def free_keyless() -> None:
    calls.pkey_free(9)


@provocation("pkey_set", "EINVAL", Reason.UNKNOWN_FLAGS, "rights that no key has")
def unknown_rights() -> None:
    calls.pkey_set(1, 77)


@provocation("pkey_set", "ENOSYS", Reason.NO_KEYS, "CPU or kernel have no keys", needs="a CPU without protection keys")
def set_keyless() -> None:
    calls.pkey_set(1, 0)


@provocation("set_mdwe", "EPERM", Reason.NOT_PERMITTED, "taking back what was denied", needs="PR_SET_MDWE")
def mdwe_is_one_way() -> None:
    calls.set_mdwe(DenyWriteExecute.REFUSE_EXEC_GAIN)
    calls.set_mdwe(DenyWriteExecute(0))


@provocation("set_mdwe", "EINVAL", Reason.UNKNOWN_FLAGS, "bits that mean nothing", needs="PR_SET_MDWE")
def mdwe_flags() -> None:
    calls.set_mdwe(1 << 40)
