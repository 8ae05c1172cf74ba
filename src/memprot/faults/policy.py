"""Policies: what happens to a fault, and who decides it afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import memprot._native as _native

if TYPE_CHECKING:
    from collections.abc import Callable

    from memprot.faults.error import FaultError

__all__ = ["Policy", "PolicyName", "policy_in_effect", "verdict_of"]

PolicyName = Literal["raise", "log", "discard", "abort"]
Policy: TypeAlias = "PolicyName | Callable[[FaultError], PolicyName | None]"

MEMORY: Final = -1
PROCESS: Final = 0


def policy_in_effect(source: int, address: int, of_process: object) -> object:
    """The policy that a fault fell under, as it is now; None when who gave it is gone.

    :param source: of the policy, as in :class:`memprot.faults.native_record.NativeRecord`.
    :param address: of the fault.
    :param of_process: what counts where nothing else does.

    >>> policy_in_effect(0, 0x1000, "log")
    'log'
    """
    if source == PROCESS:
        return of_process
    if source == MEMORY:
        return getattr(_native.region_at(address), "policy", None)
    return _native.scope_policy(source)


def verdict_of(policy: object, fault: FaultError) -> PolicyName:
    """What is to be done about a fault.

    :param policy: a name, or a callable that is asked; None stands for ``"raise"``.
    :raises ValueError: the callable returns something else than a policy's name or None, which is ``"discard"``.
    :raises Exception: what the callable raises.

    >>> from memprot import FaultError
    >>> verdict_of(lambda fault: None, FaultError())
    'discard'
    """
    answer: Any = policy
    if callable(policy):
        answer = policy(fault)
        answer = "discard" if answer is None else answer
        if not isinstance(answer, str):
            raise ValueError(f"the fault policy {policy!r} returned {answer!r}, which is no name of a policy")
        _native.policy_number(answer)
    return "raise" if answer is None else answer
