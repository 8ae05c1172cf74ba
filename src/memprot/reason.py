"""Why a memory system call fails: one name for each cause that can be told apart.

>>> from memprot import Reason
>>> Reason.HOLE.value
'hole'
"""

from enum import StrEnum

__all__ = ["Reason"]


class Reason(StrEnum):
    """The cause of a :class:`memprot.ProtectionError` or of a verdict of ``check``.

    One errno has many causes, and one cause may have another errno on another kernel; this is the cause.

    Source: mprotect(2), mmap(2), madvise(2), mlock(2), mseal(2), pkeys(7), mm/mprotect.c, mm/vma.c.

    >>> from memprot import Reason
    >>> Reason("sealed") is Reason.SEALED
    True
    """

    MISALIGNED = "misaligned"
    """The address (or an offset) is no multiple of the page size."""
    UNKNOWN_FLAGS = "unknown_flags"
    """Bits that this kernel does not know, or not on this architecture."""
    BOTH_GROWS = "both_grows"
    """GROWSDOWN and GROWSUP together."""
    NOT_GROWING = "not_growing"
    """GROWSDOWN or GROWSUP for a mapping that does not grow that way."""
    RANGE_WRAPS = "range_wraps"
    """The range ends beyond the last address."""
    OUTSIDE = "outside"
    """The range, or a part of it, lies beyond the addresses a program can have."""
    HOLE = "hole"
    """Nothing is mapped in a part of the range."""
    OCCUPIED = "occupied"
    """Something is mapped where nothing may be."""
    MAPPING_LIMIT = "mapping_limit"
    """The process has as many mappings as vm.max_map_count allows."""
    OUT_OF_MEMORY = "out_of_memory"
    """The kernel had no memory left."""
    OVERCOMMIT = "overcommit"
    """The kernel promises no more memory than it has (vm.overcommit_memory)."""
    DATA_LIMIT = "data_limit"
    """RLIMIT_DATA: as much private writable memory as the process may have."""
    ADDRESS_SPACE_LIMIT = "address_space_limit"
    """RLIMIT_AS: as many addresses as the process may have."""
    LOCK_LIMIT = "lock_limit"
    """RLIMIT_MEMLOCK: as much locked memory as the process may have."""
    FILE_READ_ONLY = "file_read_only"
    """The file was opened for reading only, and the mapping is shared."""
    FILE_NOT_READABLE = "file_not_readable"
    """The file was not opened for reading."""
    NOEXEC_MOUNT = "noexec_mount"
    """The file lies on a file system that is mounted noexec."""
    DENY_WRITE_EXECUTE = "deny_write_execute"
    """The process has denied itself memory that becomes executable (PR_SET_MDWE)."""
    EXECMEM = "execmem"
    """SELinux: executable memory that no file backs, or private file memory that was written."""
    EXECHEAP = "execheap"
    """SELinux: the heap made executable."""
    EXECSTACK = "execstack"
    """SELinux: a stack made executable."""
    EXECMOD = "execmod"
    """SELinux: file memory made executable after it was modified."""
    SECURITY_MODULE = "security_module"
    """A security module or a seccomp filter refused; which rule cannot be told."""
    SEALED = "sealed"
    """The mapping is sealed (mseal)."""
    MEMFD_SEAL = "memfd_seal"
    """The file is sealed against writing (F_SEAL_WRITE, F_SEAL_FUTURE_WRITE)."""
    KEY_NOT_ALLOCATED = "key_not_allocated"
    """The protection key has not been allocated."""
    NO_KEY_LEFT = "no_key_left"
    """Every protection key is in use."""
    NO_KEYS = "no_keys"
    """The CPU, or the kernel, has no protection keys."""
    LOCKED = "locked"
    """The pages are locked into memory (mlock)."""
    SPECIAL_MAPPING = "special_mapping"
    """The mapping is of a kind for which the call is not made: a device, huge pages, the kernel's own."""
    BAD_ARGUMENT = "bad_argument"
    """Another argument that the kernel does not take."""
    BAD_DESCRIPTOR = "bad_descriptor"
    """The descriptor is not open, or not of a file that can be mapped."""
    DESCRIPTOR_LIMIT = "descriptor_limit"
    """The process, or the system, has as many files open as it may."""
    NOT_SUPPORTED = "not_supported"
    """This kernel does not have the call or the option."""
    NOT_PERMITTED = "not_permitted"
    """A privilege is missing."""
    SHARED_PAGE = "shared_page"
    """A page also holds bytes outside the target; memprot refuses, not the kernel."""
    CHANGED_MEANWHILE = "changed_meanwhile"
    """The memory is not the one it was when the scope began; memprot refuses, not the kernel."""
