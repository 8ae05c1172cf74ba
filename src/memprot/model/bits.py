"""The bits that a mapping carries inside the kernel, by the kernel's own names and values.

Two adjacent mappings can become one only when all these bits agree (:mod:`memprot.model.merging`).

Source: include/linux/mm.h, of a 64-bit x86 kernel.

>>> from memprot.model.bits import VM_MAYWRITE, VM_WRITE
>>> VM_MAYWRITE >> 4 == VM_WRITE
True
"""

VM_READ = 0x1
VM_WRITE = 0x2
VM_EXEC = 0x4
VM_SHARED = 0x8
"""Writes reach the file. Absent when the file was opened for reading only, however it was mapped."""
VM_MAYREAD = 0x10
"""mprotect may make it readable; in the same way VM_MAYWRITE and VM_MAYEXEC."""
VM_MAYWRITE = 0x20
VM_MAYEXEC = 0x40
VM_MAYSHARE = 0x80
"""It was mapped shared: what the fourth letter of /proc/PID/maps tells."""
VM_GROWSDOWN = 0x100
VM_LOCKED = 0x2000
VM_SEQ_READ = 0x8000
VM_RAND_READ = 0x10000
VM_DONTCOPY = 0x20000
VM_LOCKONFAULT = 0x80000
VM_ACCOUNT = 0x100000
"""Its pages are counted against what the kernel has promised."""
VM_NORESERVE = 0x200000
VM_SYNC = 0x800000
VM_WIPEONFORK = 0x2000000
VM_DONTDUMP = 0x4000000
VM_HUGEPAGE = 0x20000000
VM_NOHUGEPAGE = 0x40000000
VM_MERGEABLE = 0x80000000
VM_DROPPABLE = 1 << 40
VM_SEALED = 1 << 42

VM_PKEY_SHIFT = 32
"""Where the four bits of the protection key begin."""
VM_PKEY = 0xF << VM_PKEY_SHIFT

VM_ACCESS = VM_READ | VM_WRITE | VM_EXEC
VM_MAY_ACCESS = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
VM_LOCKED_MASK = VM_LOCKED | VM_LOCKONFAULT

PAGE = 4096
"""The model's page: that of x86, whatever machine runs it."""
PAGE_SHIFT = 12
WORD = 2**64
"""One more than the largest machine word."""
