"""The engine's Python side: deliveries become exceptions, and what nobody raises is told to listeners."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypeAlias

import memprot._native as _native
import memprot.faults.chronicle as chronicle
from memprot.faults.error import FaultError
from memprot.faults.native_record import NativeRecord
from memprot.faults.policy import policy_in_effect, verdict_of
from memprot.faults.untold import log, raise_in_vain

if TYPE_CHECKING:
    from collections.abc import Callable

    from memprot.faults.policy import Policy
    from memprot.faults.record import FaultRecord

__all__ = ["ProcessPolicy", "add_listener", "drain", "get_policy", "reinstall", "remove_listener", "set_policy"]

ProcessPolicy: TypeAlias = 'Policy | Literal["die"]'

_DIE: Final = 0
_LOG: Final = 2
_DISCARD: Final = 4
_ADDRESS: Final = 5
_POLICY: Final = NativeRecord._fields.index("policy")
_RULING: Final = slice(_POLICY, _POLICY + 3)  # of a row: the policy's number, its source, the number of the scope

_Item: TypeAlias = "tuple[Any, ...] | BaseException"

_policy: ProcessPolicy = "die"
_listeners: list[Callable[[FaultRecord], object]] = []


def set_policy(policy: ProcessPolicy) -> None:
    """Say what happens to a fault on memory that memprot owns where neither the memory nor a scope says so.

    A :class:`memprot.Region` may have a policy of its own, which counts first; then that of the thread's innermost
    open :class:`memprot.catch_faults`; then, for a thread without one, that of the newest open scope of the process.

    :param policy: what happens:

        ``"die"``, the default: it is reported, and the process dies of the signal;
        ``"raise"``: :class:`memprot.FaultError` is raised in the thread that faulted, and the data is as it was;
        ``"log"``: the access happens, and only the listeners are told. What lies behind a guard is no memory: what is
        written there vanishes. So does what is written to a file that is open for reading only;
        ``"discard"``: what is written vanishes; what is read is the old bytes, or zeros where reading is forbidden.
        Only the listeners are told;
        ``"abort"``: as ``"die"``, but asked for;
        a callable: it is called with the :class:`memprot.FaultError` after the access, which went to a decoy with the
        bytes of the page, also where these may not be read. It returns one of the names above other than ``"die"``, or
        None for ``"discard"``. ``"log"`` then keeps what was written. What it raises is raised like the fault. In the
        main thread it is called at once; in another one where its scope ends, or at ``scope.check()``. For a thread
        without a scope the main thread calls it, and what there is to raise reaches ``sys.unraisablehook``.
    :raises ValueError: no such policy.
    :raises TypeError: neither a name nor a callable.
    :raises OSError: the handlers cannot be installed.

    Source: sigaction(2), SIGSEGV.

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
    number = _DIE if isinstance(policy, str) and policy == "die" else _native.policy_number(policy)
    if _policy == "die" and policy != "die":
        _native.fault_acquire()
    elif _policy != "die" and policy == "die":
        _native.fault_release()
    _policy = policy
    _native.fault_policy(number)


def get_policy() -> ProcessPolicy:
    """The policy of the process: see :func:`set_policy`.

    >>> get_policy()
    'die'
    """
    return _policy


def add_listener(listener: Callable[[FaultRecord], object]) -> None:
    """Have ``listener`` called with each :class:`~memprot.faults.record.FaultRecord`, once.

    It is called when the fault is raised, or by :func:`drain`, in the thread that does so. While there is a listener,
    it is the one who tells what nobody raises: nothing goes to :mod:`logging` and ``sys.unraisablehook``.

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
    """Tell of every fault that nobody has taken over yet, whoever it was meant for.

    >>> drain()
    """
    _tell(_native.fault_claim_all())


def _drain_untold() -> None:
    _tell(_native.fault_claim_untold())


def _tell(items: list[_Item]) -> None:
    for item in items:
        if isinstance(item, tuple):
            fault = FaultError._from_native(chronicle.keep(item))
            _notice(fault)
            if not _listeners and item[_POLICY] in (_LOG, _DISCARD):
                log(fault)
            elif not _listeners:
                raise_in_vain(fault)
        else:
            raise_in_vain(item)


def _notice(fault: FaultError) -> None:
    """Tell the listeners of a fault, and its scope of one that will not be raised."""
    row = fault._row
    if row is None:
        return
    policy, _, scope = row[_RULING]
    if policy in (_LOG, _DISCARD) and scope:
        _native.scope_remember(scope, fault)
    if not _listeners:
        return  # what the record costs is not paid: it reads mappings and symbols
    record = fault.record
    for listener in list(_listeners):
        if record is not None:
            listener(record)


def _error_from(items: list[_Item]) -> BaseException:
    faults: list[FaultError] = []
    raised = None
    for item in items:
        error = item if isinstance(item, BaseException) else FaultError._from_native(chronicle.keep(item))
        if isinstance(error, FaultError):
            faults.append(error)
        else:
            raised = raised or error
        if error is not item and isinstance(error, FaultError):
            _notice(error)
    if faults:
        first, *rest = faults
        for other in rest:
            first._join(other)
        if raised is None:
            return first
        raised.__context__ = raised.__context__ or first
    assert raised is not None
    return raised


def _decide(row: tuple[Any, ...]) -> tuple[bool, BaseException | None]:
    """Whether what an access has written stays, and what is raised of it."""
    fault = FaultError._from_native(chronicle.keep(row))
    _notice(fault)
    _, source, scope = row[_RULING]
    try:
        verdict = verdict_of(policy_in_effect(source, row[_ADDRESS], _policy), fault)
    except FaultError as other:  # the callable's own, or one that was on its way
        if other is not fault:
            fault._join(other)
        return False, fault
    except BaseException as error:  # noqa: BLE001 (what a policy raises is raised like the fault)
        return False, error
    if verdict == "abort":
        _abort(fault)
    if verdict not in ("log", "discard"):
        return False, fault
    if scope:
        _native.scope_remember(scope, fault)
    if not _listeners:
        log(fault)
    return verdict == "log", None


def _abort(fault: FaultError) -> NoReturn:
    """Report a fault and die of its signal."""
    # A process in which nothing is reported needs none of it.
    from memprot.faults.ink import Ink
    from memprot.faults.report import render

    record = fault.record
    assert record is not None
    text = render(record._replace(recovered=False), "abort", Ink(color=False, unicode=False))
    os.write(2, text.encode("ascii", "backslashreplace"))
    _native.fault_die(record.signal)


class _Delivery(FaultError):  # noqa: N818
    """What a handler sets as a thread's pending exception; instantiated, it is the fault itself."""

    def __new__(cls, fault: BaseException | None = None) -> BaseException:  # type: ignore[misc]
        # An interpreter that instantiates early, to chain it to the exception being handled, does so twice.
        return (
            fault or _native.fault_take() or FaultError("the fault was taken over elsewhere before it was raised here")
        )


_Delivery.__name__ = _Delivery.__qualname__ = "FaultError"
_native.set_delivery(_Delivery, _error_from, _decide)
_native.set_drain(_drain_untold)
atexit.register(drain)


_native.set_region_fault(FaultError._from_accessor)

# What was recorded before a fork is raised after it, on both sides, and not in somebody's function for forks.
os.register_at_fork(
    before=_native.fault_withhold, after_in_parent=_native.fault_resume, after_in_child=_native.fault_resume
)
