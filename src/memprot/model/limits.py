"""How much an address space may hold, and how much it holds."""

from typing import NamedTuple

from memprot.model.bits import PAGE, VM_GROWSDOWN, VM_LOCKED, VM_SHARED, VM_WRITE
from memprot.reason import Reason

__all__ = ["Limits", "Usage"]

_DATA = VM_WRITE | VM_SHARED | VM_GROWSDOWN


class Limits(NamedTuple):
    """What the system and the process set; None for no limit. Sizes are in bytes.

    :ivar max_map_count: vm.max_map_count, the most mappings.
    :ivar mmap_min_addr: vm.mmap_min_addr, below which nothing is mapped; 0 for a privileged process.
    :ivar memlock: RLIMIT_MEMLOCK, the most locked memory.
    :ivar address_space: RLIMIT_AS, the most addresses.
    :ivar data: RLIMIT_DATA, the most private writable memory.
    :ivar stack: RLIMIT_STACK, how far a mapping that grows down may grow.
    :ivar memory: the machine's memory and swap space; a single request for more is refused.

    Source: getrlimit(2), Documentation/admin-guide/sysctl/vm.rst.

    >>> from memprot.model.limits import Limits
    >>> Limits().max_map_count
    65530
    """

    max_map_count: int = 65530
    mmap_min_addr: int = 65536
    memlock: int | None = None
    address_space: int | None = None
    data: int | None = None
    stack: int | None = 8 << 20
    memory: int | None = None


class Usage:
    """What an address space holds of the limited things, in pages.

    Source: vm_stat_account and may_expand_vm, mm/mmap.c; mlock_future_ok, mm/mmap.c.

    >>> from memprot.model.bits import VM_WRITE
    >>> from memprot.model.limits import Limits, Usage
    >>> usage = Usage(Limits(data=8192))
    >>> usage.account(VM_WRITE, 2)
    >>> usage.may_expand(VM_WRITE, 1), usage.may_expand(0, 1)
    (False, True)
    """

    __slots__ = ("data", "limits", "locked", "total")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.total = 0
        self.data = 0
        self.locked = 0

    def account(self, flags: int, pages: int) -> None:
        """Count pages of a mapping with these flags; negative when they go."""
        self.total += pages
        if flags & _DATA == VM_WRITE:
            self.data += pages

    def may_expand(self, flags: int, pages: int) -> bool:
        """Whether so many pages more stay within RLIMIT_AS and RLIMIT_DATA."""
        limits = self.limits
        if limits.address_space is not None and self.total + pages > limits.address_space // PAGE:
            return False
        return limits.data is None or flags & _DATA != VM_WRITE or self.data + pages <= limits.data // PAGE

    def which_limit(self, pages: int) -> Reason:
        """The limit that so many pages more pass, where :meth:`may_expand` says no."""
        return Reason.DATA_LIMIT if self.may_expand(0, pages) else Reason.ADDRESS_SPACE_LIMIT

    def may_lock(self, flags: int, pages: int) -> bool:
        """Whether so many pages more stay within RLIMIT_MEMLOCK, if the flags lock them."""
        memlock = self.limits.memlock
        return not flags & VM_LOCKED or memlock is None or self.locked + pages <= memlock // PAGE

    def enough_memory(self, pages: int) -> bool:
        """Whether the kernel promises so many pages at once (vm.overcommit_memory is 0)."""
        return self.limits.memory is None or pages <= self.limits.memory // PAGE
