"""Flags of mbind(2), set_mempolicy(2) and move_pages(2): memory on machines that have several, a node each.

Source: include/uapi/linux/mempolicy.h.

>>> from memprot.flags import NumaMode, NumaModeFlag
>>> hex(NumaMode.BIND | NumaModeFlag.STATIC_NODES)
'0x8002'
"""

from enum import IntEnum, IntFlag

__all__ = ["NumaFlag", "NumaMode", "NumaModeFlag"]


class NumaMode(IntEnum):
    """How a policy picks the node of a new page: one at a time.

    >>> from memprot.flags import NumaMode
    >>> NumaMode(2)
    <NumaMode.BIND: 2>
    """

    DEFAULT = 0
    """No policy: for a range that of its thread, for a thread the node it runs on."""
    PREFERRED = 1
    """The node named first, others when it is full."""
    BIND = 2
    """The nodes named, and no others."""
    INTERLEAVE = 3
    """The nodes named, in turn."""
    LOCAL = 4
    """The node of the CPU that touches the page first."""
    PREFERRED_MANY = 5
    """The nodes named, others when they are full (Linux 5.15)."""
    WEIGHTED_INTERLEAVE = 6
    """The nodes named, in turn, each as often as its weight in /sys says (Linux 6.9)."""


class NumaModeFlag(IntFlag):
    """What can be added to a :class:`NumaMode`.

    >>> from memprot.flags import NumaModeFlag
    >>> int(NumaModeFlag.RELATIVE_NODES)
    16384
    """

    NUMA_BALANCING = 1 << 13
    """With BIND: pages may be moved to where they are used (Linux 5.12)."""
    RELATIVE_NODES = 1 << 14
    """Nodes are counted among those that the process is allowed."""
    STATIC_NODES = 1 << 15
    """Nodes stay those named when the process is allowed others."""


class NumaFlag(IntFlag):
    """What mbind(2) and move_pages(2) take as flags.

    >>> from memprot.flags import NumaFlag
    >>> NumaFlag.MOVE | NumaFlag.STRICT
    <NumaFlag.STRICT|MOVE: 3>
    """

    STRICT = 1 << 0
    """mbind: EIO when a page is elsewhere already and is not moved."""
    MOVE = 1 << 1
    """Pages that only this process has are moved."""
    MOVE_ALL = 1 << 2
    """Pages that others have too are moved (privileged)."""
    LAZY = 1 << 3
    """In the headers only: the kernel answers EINVAL."""
