"""What stands in the way of a call: the errno it gives, the cause, the place and what to do."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from memprot._native import Mapping
    from memprot.reason import Reason

__all__ = ["Refusal"]


class Refusal(NamedTuple):
    """One cause for which the kernel refuses a call.

    >>> import errno
    >>> from memprot.diagnosis.refusal import Refusal
    >>> from memprot.reason import Reason
    >>> Refusal(errno.EINVAL, Reason.BOTH_GROWS, "GROWSDOWN and GROWSUP exclude each other").start
    """

    errno: int
    """What the call fails with."""
    reason: "Reason | None"
    """The cause; None when it cannot be told."""
    explanation: str | None
    """The cause in words, with the values; None when there is nothing to say."""
    hint: str | None = None
    """What to do about it."""
    start: int | None = None
    """The first address of the offending part; None when the arguments themselves are wrong."""
    stop: int | None = None
    """The address after it."""
    mapping: "Mapping | None" = None
    """The mapping that refuses."""
    applied: tuple[tuple[int, int], ...] = ()
    """The ranges that the call had changed already when it was refused."""
