"""Flags of mlock2(2) and mlockall(2).

Source: include/uapi/asm-generic/mman-common.h, mman.h.

>>> from memprot.flags import LockAllFlag
>>> LockAllFlag.CURRENT | LockAllFlag.FUTURE
<LockAllFlag.CURRENT|FUTURE: 3>
"""

from enum import IntFlag

__all__ = ["LockAllFlag", "LockFlag"]


class LockFlag(IntFlag):
    """What mlock2(2) takes as flags.

    >>> from memprot.flags import LockFlag
    >>> int(LockFlag.ONFAULT)
    1
    """

    ONFAULT = 0x01
    """Pages are locked as they are touched, not all at once."""


class LockAllFlag(IntFlag):
    """What mlockall(2) takes as flags: CURRENT, FUTURE or both, perhaps with ONFAULT.

    >>> from memprot.flags import LockAllFlag
    >>> int(LockAllFlag.FUTURE)
    2
    """

    CURRENT = 1
    """Everything that is mapped now."""
    FUTURE = 2
    """Everything that will be mapped."""
    ONFAULT = 4
    """Pages are locked as they are touched, not all at once."""
