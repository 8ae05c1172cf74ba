"""What a process denies itself (prctl(2)).

Source: include/uapi/linux/prctl.h.

>>> from memprot.flags import DenyWriteExecute
>>> DenyWriteExecute(3)
<DenyWriteExecute.REFUSE_EXEC_GAIN|NO_INHERIT: 3>
"""

from enum import IntFlag

__all__ = ["DenyWriteExecute"]


class DenyWriteExecute(IntFlag):
    """What PR_SET_MDWE takes: memory that is not executable never becomes so.

    >>> from memprot.flags import DenyWriteExecute
    >>> int(DenyWriteExecute.REFUSE_EXEC_GAIN)
    1
    """

    REFUSE_EXEC_GAIN = 1
    """No new memory that is writable and executable, and no mapping that becomes executable (Linux 6.3)."""
    NO_INHERIT = 2
    """With REFUSE_EXEC_GAIN: children made by fork(2) are free of it (Linux 6.6)."""
