"""Flags of files that live in memory: memfd_create(2), memfd_secret(2), and seals.

Source: include/uapi/linux/memfd.h, fcntl.h, include/uapi/asm-generic/hugetlb_encode.h.

>>> from memprot.flags import MemfdFlag
>>> MemfdFlag(3)
<MemfdFlag.CLOEXEC|ALLOW_SEALING: 3>
"""

import os
from enum import IntFlag

from memprot.flags.mapping import HUGE_SHIFT

__all__ = ["MemfdFlag", "Seal", "SecretFlag"]


class MemfdFlag(IntFlag):
    """What memfd_create(2) takes as flags.

    >>> from memprot.flags import MemfdFlag
    >>> MemfdFlag.CLOEXEC | MemfdFlag.ALLOW_SEALING
    <MemfdFlag.CLOEXEC|ALLOW_SEALING: 3>
    """

    CLOEXEC = 0x0001
    """The descriptor is closed by execve(2)."""
    ALLOW_SEALING = 0x0002
    """Seals may be put on the file (fcntl(2), F_ADD_SEALS)."""
    HUGETLB = 0x0004
    """Huge pages; of the default size, or of the one that a HUGE flag says."""
    NOEXEC_SEAL = 0x0008
    """Not executable, and sealed so (Linux 6.3)."""
    EXEC = 0x0010
    """Executable (Linux 6.3)."""
    HUGE_64KB = 16 << HUGE_SHIFT
    HUGE_512KB = 19 << HUGE_SHIFT
    HUGE_1MB = 20 << HUGE_SHIFT
    HUGE_2MB = 21 << HUGE_SHIFT
    HUGE_8MB = 23 << HUGE_SHIFT
    HUGE_16MB = 24 << HUGE_SHIFT
    HUGE_32MB = 25 << HUGE_SHIFT
    HUGE_256MB = 28 << HUGE_SHIFT
    HUGE_512MB = 29 << HUGE_SHIFT
    HUGE_1GB = 30 << HUGE_SHIFT
    HUGE_2GB = 31 << HUGE_SHIFT
    HUGE_16GB = 34 << HUGE_SHIFT


class Seal(IntFlag):
    """What fcntl(2) with F_ADD_SEALS puts on a memory file, for good.

    >>> from memprot.flags import Seal
    >>> Seal.SHRINK | Seal.WRITE
    <Seal.SHRINK|WRITE: 10>
    """

    SEAL = 0x0001
    """No more seals."""
    SHRINK = 0x0002
    """Its size does not fall."""
    GROW = 0x0004
    """Its size does not rise."""
    WRITE = 0x0008
    """Its content does not change; refused while a writable shared mapping exists."""
    FUTURE_WRITE = 0x0010
    """Its content changes only through the writable mappings that exist (Linux 5.1)."""
    EXEC = 0x0020
    """It does not become executable, or stop being so (Linux 6.3)."""


class SecretFlag(IntFlag):
    """What memfd_secret(2) takes as flags.

    >>> from memprot.flags import SecretFlag
    >>> SecretFlag.CLOEXEC.name
    'CLOEXEC'
    """

    CLOEXEC = os.O_CLOEXEC
    """The descriptor is closed by execve(2). The man page says FD_CLOEXEC, which the kernel refuses."""
