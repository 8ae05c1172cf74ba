"""One mapping of an address space, and what its memory is for.

>>> from memprot import AddressSpace
>>> {mapping.kind for mapping in AddressSpace()} >= {MappingKind.FILE, MappingKind.STACK}
True
"""

from enum import StrEnum

import memprot._native as _native
from memprot._native import Mapping
from memprot.prot import as_prot

__all__ = ["Mapping", "MappingKind"]


class MappingKind(StrEnum):
    """What the memory of a mapping is for, as far as its line in /proc/PID/maps tells.

    Source: proc_pid_maps(5), fs/proc/task_mmu.c.

    >>> from memprot.space.mapping import MappingKind
    >>> MappingKind("heap") == "heap"
    True
    """

    ANONYMOUS = "anonymous"
    """Private memory without a file; perhaps with a name (``[anon:...]``)."""
    FILE = "file"
    """A file of some file system."""
    HEAP = "heap"
    """What brk(2) moves."""
    STACK = "stack"
    """The main thread's stack."""
    VDSO = "vdso"
    """The kernel's functions for user space."""
    VVAR = "vvar"
    """The data of those functions."""
    VSYSCALL = "vsyscall"
    """The gate page of old x86-64 programs; in the text, though no part of the address space."""
    MEMFD = "memfd"
    """A file made by memfd_create(2)."""
    SHARED_MEMORY = "shared_memory"
    """Anonymous shared memory, shm_open(3), System V."""
    SECRET = "secret"
    """A file made by memfd_secret(2)."""
    DEVICE = "device"
    """A file under /dev that is no shared memory."""
    KERNEL = "kernel"
    """An object of the kernel: a ring of io_uring, perf or aio, the page of uprobes."""


_native.set_mapping_types(as_prot, MappingKind)
