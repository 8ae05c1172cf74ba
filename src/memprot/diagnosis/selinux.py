"""SELinux: which of its rules speak about a change of protection.

What a policy allows cannot be known here; but a change that none of these rules speaks about was not refused
by them, and one that fails with EACCES without any other cause was refused by one that does.
"""

import os
from typing import NamedTuple

from memprot._native import read_small_file
from memprot.prot import Prot
from memprot.reason import Reason

__all__ = ["Change", "enforcing", "rules"]


class Change(NamedTuple):
    """A change of protection, as SELinux looks at it.

    >>> from memprot.diagnosis.selinux import Change
    >>> from memprot.prot import Prot
    >>> Change(Prot("rw-"), Prot("rwx")).file_backed
    False
    """

    before: Prot
    """What the mapping may do now."""
    wanted: Prot
    """What it shall do."""
    file_backed: bool = False
    """Whether a file is behind the mapping."""
    shared: bool = False
    """Whether the mapping is shared."""
    heap: bool = False
    """Whether it is what brk(2) moves."""
    stack: bool = False
    """Whether it is the stack of the thread or of the process."""
    modified: bool = False
    """Whether it has pages of its own that no longer are those of the file."""


def rules(change: Change) -> tuple[Reason, ...]:
    """The rules that are asked about a change, in the order in which they are.

    Source: selinux_file_mprotect and file_map_prot_check in security/selinux/hooks.c.

    >>> from memprot.diagnosis.selinux import Change, rules
    >>> from memprot.prot import Prot
    >>> rules(Change(Prot("rw-"), Prot("rwx"), heap=True))
    (<Reason.EXECHEAP: 'execheap'>, <Reason.EXECMEM: 'execmem'>)
    """
    if not change.wanted & Prot.EXEC:
        return ()
    asked = []
    if not change.before & Prot.EXEC:
        if change.heap:
            asked.append(Reason.EXECHEAP)
        elif not change.file_backed and change.stack:
            asked.append(Reason.EXECSTACK)
        elif change.file_backed and change.modified:
            asked.append(Reason.EXECMOD)
    if not change.file_backed or (not change.shared and change.wanted & Prot.WRITE):
        asked.append(Reason.EXECMEM)
    return tuple(asked)


def enforcing() -> bool:
    """Whether SELinux runs here and refuses what its policy does not allow.

    >>> from memprot.diagnosis.selinux import enforcing
    >>> enforcing() in (True, False)
    True
    """
    if not os.path.exists("/sys/fs/selinux/enforce"):
        return False
    try:
        return read_small_file("/sys/fs/selinux/enforce").strip() == b"1"
    except OSError:
        return False  # it may not be asked, and what is not known is not claimed
