"""Protection keys: sixteen numbers that mappings carry, and what each thread may do with each."""

from errno import EINVAL, ENOSPC

from memprot.model.refusal import RefusalError
from memprot.reason import Reason

__all__ = ["DISABLE_ACCESS", "DISABLE_WRITE", "Keys", "Thread"]

DISABLE_ACCESS = 1
DISABLE_WRITE = 2

_NUMBER = 16


class Thread:
    """A thread, as far as protection keys go: its register PKRU.

    :ivar rights: for each key what is withheld: 0, ``DISABLE_ACCESS`` (1), ``DISABLE_WRITE`` (2) or both. Setting
        an item is what pkey_set(3) does.

    The first thread of a process starts with every key but 0 disabled; a new thread with the rights of the one
    that starts it. Instructions are fetched whatever the rights say.

    Source: arch/x86/include/asm/pkru.h; pkeys(7).

    >>> from memprot.model import Thread
    >>> thread = Thread()
    >>> thread.allows(0, write=True), thread.allows(1, write=False)
    (True, False)
    """

    __slots__ = ("rights",)

    def __init__(self, parent: "Thread | None" = None) -> None:
        self.rights: list[int] = [0, *[DISABLE_ACCESS] * (_NUMBER - 1)] if parent is None else list(parent.rights)

    def allows(self, key: int, write: bool) -> bool:
        """Whether the thread may read, or write, pages with this key (__pkru_allows_pkey)."""
        withheld = self.rights[key]
        return not withheld & DISABLE_ACCESS and not (write and withheld & DISABLE_WRITE)


class Keys:
    """Which keys a process has allocated.

    :param number: 16, or 0 for a processor without protection keys.

    Source: arch/x86/include/asm/pkeys.h, arch/x86/mm/pkeys.c, mm/mprotect.c.

    >>> from memprot.model.keys import Keys, Thread
    >>> keys = Keys(16)
    >>> keys.allocate(0, 0, Thread())
    1
    >>> keys.is_allocated(1), keys.is_allocated(2)
    (True, False)
    """

    __slots__ = ("allocated", "execute_only", "number", "spent")

    def __init__(self, number: int) -> None:
        if number not in (0, _NUMBER):
            raise ValueError(f"a processor has {_NUMBER} protection keys or 0, not {number}")
        self.number = number
        self.allocated: set[int] = {0} if number else set()
        self.execute_only: int | None = None
        self.spent = False

    def copy(self) -> "Keys":
        """The keys of a child process."""
        child = Keys(self.number)
        child.allocated = set(self.allocated)
        child.execute_only = self.execute_only
        child.spent = self.spent
        return child

    def is_allocated(self, key: int) -> bool:
        """Whether a program may use the key; the one that the kernel took for itself, it may not."""
        return key in self.allocated and key != self.execute_only

    def allocate(self, flags: int, rights: int, thread: Thread) -> int:
        """pkey_alloc(2)."""
        if flags:
            raise RefusalError(EINVAL, Reason.UNKNOWN_FLAGS)
        if rights & ~(DISABLE_ACCESS | DISABLE_WRITE):
            raise RefusalError(EINVAL, Reason.UNKNOWN_FLAGS)
        if not self.number:
            # Key 0 seems free; only setting its rights fails, and it is not given back.
            number = ENOSPC if self.spent else EINVAL
            self.spent = True
            raise RefusalError(number, Reason.NO_KEYS)
        key = self._lowest_free()
        if key is None:
            raise RefusalError(ENOSPC, Reason.NO_KEY_LEFT)
        self.allocated.add(key)
        thread.rights[key] = rights
        return key

    def free(self, key: int) -> None:
        """pkey_free(2). Mappings keep the key, and the next who allocates it gets them with it."""
        if not self.is_allocated(key):
            raise RefusalError(EINVAL, Reason.KEY_NOT_ALLOCATED)
        self.allocated.discard(key)

    def execute_only_key(self, thread: Thread) -> int:
        """The key that makes memory with PROT_EXEC alone unreadable; taken at the first need; 0 if none is left."""
        if not self.number:
            return 0
        if self.execute_only is None:
            key = self._lowest_free()
            if key is None:
                return 0
            self.allocated.add(key)
            self.execute_only = key
            thread.rights[key] = DISABLE_ACCESS
        elif not thread.rights[self.execute_only] & DISABLE_ACCESS:
            thread.rights[self.execute_only] = DISABLE_ACCESS
        return self.execute_only

    def _lowest_free(self) -> int | None:
        return next((key for key in range(self.number) if key not in self.allocated), None)
