"""The engine's Python side: deliveries become exceptions, policies say what else may happen to a fault.

A policy holds for the whole process while no :class:`memprot.catch_faults` scope is open; within a scope faults are
always raised.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, Literal

import memprot._native as _native
from memprot.faults.error import FaultError
from memprot.faults.native_record import as_record, from_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from memprot.faults.record import FaultRecord

Policy = Literal["die", "raise", "log", "abort"]

_POLICIES: Final[tuple[Policy, ...]] = ("die", "raise", "log", "abort")
_policy: Policy = "die"
_listeners: list[Callable[[FaultRecord], object]] = []


def set_policy(policy: Policy) -> None:
    """Say what happens to a fault on memory that memprot owns while no scope is open.

    Parameters:
        policy: ``"die"`` reports it and lets the process die of the signal, as every fault does by default;
            ``"raise"`` recovers and raises :class:`memprot.FaultError` in the thread that faulted; ``"log"`` recovers
            and only tells the listeners; ``"abort"`` is ``"die"``, asked for.

    Raises:
        ValueError: no such policy.
        OSError: the handlers cannot be installed.

    >>> from memprot import FaultError, Region
    >>> region = Region(4096)
    >>> view = memoryview(region)
    >>> region.protect("r--")
    >>> set_policy("raise")
    >>> try:
    ...     view.__setitem__(0, 1)
    ... except FaultError as fault:
    ...     print(fault.access)
    write
    >>> set_policy("die")
    """
    global _policy
    if policy not in _POLICIES:
        raise ValueError(f"{policy!r} is no fault policy; choose one of {', '.join(_POLICIES)}")
    if _policy == "die" and policy != "die":
        _native.fault_acquire()
    elif _policy != "die" and policy == "die":
        _native.fault_release()
    _policy = policy
    _native.fault_policy(_POLICIES.index(policy))


def add_listener(listener: Callable[[FaultRecord], object]) -> None:
    """Have ``listener`` called with each :class:`~memprot.faults.record.FaultRecord`, once.

    It is called when the fault is raised, or by :func:`drain`, in the thread that does so.

    >>> def listener(record):
    ...     print(record.kind)
    >>> add_listener(listener)
    >>> remove_listener(listener)
    """
    _listeners.append(listener)


def remove_listener(listener: Callable[[FaultRecord], object]) -> None:
    """Call ``listener`` no more.

    Raises:
        ValueError: it was not added.

    >>> def listener(record):
    ...     print(record.kind)
    >>> add_listener(listener)
    >>> remove_listener(listener)
    """
    _listeners.remove(listener)


def reinstall() -> None:
    """Move the engine's handlers back to the top when another handler was installed since; it becomes the next.

    >>> import faulthandler
    >>> faulthandler.enable()
    >>> reinstall()
    >>> _ = faulthandler.disable()
    """
    _native.fault_reinstall()


def drain() -> None:
    """Tell the listeners of every fault that nobody has taken over yet, whoever it was meant for.

    >>> drain()
    """
    _tell(_native.fault_claim_all())


def _drain_pending() -> None:
    _tell(_native.fault_claim_all() if _policy == "log" else _native.fault_claim_unowned())


def _tell(rows: list[tuple[Any, ...]]) -> None:
    for row in rows:
        record = as_record(from_row(row))
        for listener in _listeners:
            listener(record)


def _error_from(rows: list[tuple[Any, ...]]) -> FaultError:
    first = FaultError._from_native(rows[0])
    if len(rows) > 1:
        first.others = tuple(FaultError._from_native(row) for row in rows[1:])
    if _listeners:
        for error in (first, *first.others):
            for listener in _listeners:
                if error.record is not None:
                    listener(error.record)
    return first


class _Delivery(FaultError):  # noqa: N818
    """What a handler sets as a thread's pending exception; instantiated, it is the fault itself."""

    def __new__(cls, fault: FaultError | None = None) -> FaultError:  # type: ignore[misc]
        # An interpreter that instantiates early, to chain it to the exception being handled, does so twice.
        return (
            fault or _native.fault_take() or FaultError("the fault was taken over elsewhere before it was raised here")
        )


_Delivery.__name__ = _Delivery.__qualname__ = "FaultError"
_native.set_delivery(_Delivery, _error_from)
_native.set_drain(_drain_pending)


def _region_fault(region: _native.Region, address: int, access: int, signal: int, key: int) -> FaultError:
    return FaultError._from_accessor(region, address, access, signal, key)


_native.set_region_fault(_region_fault)

# What was recorded before a fork is raised after it, on both sides, and not in somebody's function for forks.
os.register_at_fork(
    before=_native.fault_withhold, after_in_parent=_native.fault_resume, after_in_child=_native.fault_resume
)
