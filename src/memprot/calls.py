"""The memory system calls, exactly as the kernel has them.

Each is the C function itself, with the arguments in the order of the man page. An argument is an int (or an
IntFlag) and reaches the kernel as a whole 64-bit register, so that what the kernel refuses is refused by the
kernel. A failure is a :class:`memprot.ProtectionError` with the kernel's errno.

>>> from memprot import PAGE_SIZE, Prot, calls
>>> from memprot.flags import MapFlag
>>> page = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
>>> calls.mprotect(page, PAGE_SIZE, Prot.READ)
>>> calls.munmap(page, PAGE_SIZE)
"""

import memprot.errors as _errors  # noqa: F401 - registers the exception that these functions raise
from memprot._native import madvise, memfd_create, mmap, mprotect, munmap

__all__ = ["madvise", "memfd_create", "mmap", "mprotect", "munmap"]
