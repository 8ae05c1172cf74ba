"""How a rule of the model says no; the address space makes the caller's error of it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memprot.reason import Reason

__all__ = ["RefusalError"]


class RefusalError(Exception):
    """A call fails with this errno.

    :ivar number: the errno.
    :ivar reason: why.
    :ivar start: the first address of the offending part, or None.
    :ivar stop: the address after it, or None.
    :ivar applied: the ranges that the call had changed before.

    >>> from errno import ENOMEM
    >>> from memprot.model.refusal import RefusalError
    >>> from memprot.reason import Reason
    >>> RefusalError(ENOMEM, Reason.HOLE, 0x1000, 0x2000).reason
    <Reason.HOLE: 'hole'>
    """

    def __init__(self, number: int, reason: "Reason", start: int | None = None, stop: int | None = None) -> None:
        super().__init__(number, reason, start, stop)
        self.number = number
        self.reason = reason
        self.start = start
        self.stop = stop
        self.applied: tuple[tuple[int, int], ...] = ()
