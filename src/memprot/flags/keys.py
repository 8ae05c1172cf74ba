"""Rights that a protection key can take away (pkeys(7)).

Source: include/uapi/asm-generic/mman-common.h, arch/arm64/include/uapi/asm/mman.h.

>>> from memprot.flags import KeyRights
>>> KeyRights(3)
<KeyRights.DISABLE_ACCESS|DISABLE_WRITE: 3>
"""

import os
from enum import IntFlag

__all__ = ["KeyRights"]


class KeyRights(IntFlag):
    """What a thread may *not* do with the pages of a key: 0 is everything their protection allows.

    >>> from memprot.flags import KeyRights
    >>> KeyRights.DISABLE_WRITE in KeyRights(2)
    True
    """

    UNRESTRICTED = 0
    """Nothing is disabled."""
    DISABLE_ACCESS = 0x1
    """No reads and no writes; executing stays possible."""
    DISABLE_WRITE = 0x2
    """No writes."""
    if os.uname().machine == "aarch64":
        DISABLE_EXECUTE = 0x4
        """No executing (ARM)."""
        DISABLE_READ = 0x8
        """No reads (ARM)."""
