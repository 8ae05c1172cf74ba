"""The flags of the memory system calls, named as the man pages name them without their prefix.

Every constant of the kernel's headers is here, also those that this machine's headers do not know yet: a
kernel that lacks one answers EINVAL or, for most ``MapFlag``s, ignores it.

>>> from memprot.flags import MapFlag
>>> MapFlag.PRIVATE | MapFlag.ANONYMOUS
<MapFlag.PRIVATE|ANONYMOUS: 34>
"""

from memprot.flags.advice import Advice
from memprot.flags.files import MemfdFlag, Seal, SecretFlag
from memprot.flags.keys import KeyRights
from memprot.flags.locking import LockAllFlag, LockFlag
from memprot.flags.mapping import HUGE_MASK, HUGE_SHIFT, MAP_TYPE, MapFlag, RemapFlag, SyncFlag
from memprot.flags.numa import NumaFlag, NumaMode, NumaModeFlag
from memprot.flags.process import DenyWriteExecute, ExecutionDomain, Personality

__all__ = [
    "HUGE_MASK",
    "HUGE_SHIFT",
    "MAP_TYPE",
    "Advice",
    "DenyWriteExecute",
    "ExecutionDomain",
    "KeyRights",
    "LockAllFlag",
    "LockFlag",
    "MapFlag",
    "MemfdFlag",
    "NumaFlag",
    "NumaMode",
    "NumaModeFlag",
    "Personality",
    "RemapFlag",
    "Seal",
    "SecretFlag",
    "SyncFlag",
]
