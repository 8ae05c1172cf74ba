"""The last faults of the process, whatever became of them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from memprot.faults.late_record import LateRecord
from memprot.faults.native_record import with_thread_name

if TYPE_CHECKING:
    from memprot.faults.record import FaultRecord

__all__ = ["get_history_limit", "history", "keep", "set_history_limit"]

DEFAULT_LIMIT: Final = 1000

# Each operation on it is one that no other thread, finalizer or signal handler can come into. A lock's own holder may
# meet a fault, and would wait for itself.
_last: deque[LateRecord] = deque(maxlen=DEFAULT_LIMIT)


def history(*, clear: bool = False) -> list[FaultRecord]:
    """The last faults of this process that were recovered, oldest first.

    Faults of all threads are in it, and of every policy: raised, logged or discarded, also those that no one has
    seen because an ``except`` took them. Not in it are those that memprot's own accessors turn into an exception, as
    ``region[0]`` does, and the one that a process dies of. A forked child begins with a copy of its own.

    A fault is written down when it is raised or told; its record is completed when it is first looked at, here or
    as ``FaultError.record``. What names it then finds is what there is by then: an array that is gone has no name any
    more.

    Parameters:
        clear: forget them.

    >>> from memprot import FaultError, Region, catch_faults
    >>> region = Region(4096)
    >>> view = memoryview(region)
    >>> region.protect("r--")
    >>> try:
    ...     with catch_faults():
    ...         view[7] = 42
    ... except FaultError:
    ...     pass
    >>> last = history()[-1]
    >>> last.access, last.address - region.address, last.value
    ('write', 7, b'*')
    """
    faults = _take_all() if clear else _copy_of(_last)
    return [late.record for late in sorted(faults, key=_sequence_of)]


def _sequence_of(late: LateRecord) -> int:
    return int(late.row[0])  # those that nobody raises are told later than they came


def _take_all() -> list[LateRecord]:
    taken = []
    while True:
        try:
            taken.append(_last.popleft())
        except IndexError:
            return taken


def _copy_of(faults: deque[LateRecord]) -> list[LateRecord]:
    while True:
        try:
            return list(faults)
        except RuntimeError:  # a fault came meanwhile
            continue


def set_history_limit(limit: int) -> None:
    """Say how many faults :func:`history` keeps; the oldest beyond that are forgotten.

    Parameters:
        limit: 0 or more; 1000 unless it is said otherwise.

    Raises:
        ValueError: it is negative.

    >>> set_history_limit(10)
    >>> get_history_limit()
    10
    >>> set_history_limit(1000)
    """
    global _last
    if limit < 0:
        raise ValueError(f"a history of {limit} faults cannot be: the limit is 0 or more")
    before, _last = _last, deque(maxlen=limit)
    # What came to the new one meanwhile is newer than all of the old one.
    later = _take_all()
    _last.extend([*_copy_of(before), *later])


def get_history_limit() -> int:
    """How many faults :func:`history` keeps at most.

    >>> get_history_limit()
    1000
    """
    limit = _last.maxlen
    assert limit is not None
    return limit


def keep(row: tuple[Any, ...]) -> LateRecord:
    """Take a fault into the history.

    Parameters:
        row: as the binding hands it over.

    Returns:
        What stands for the fault from now on.

    >>> row = (1, 4242, "python", 11, 1, 0x10000, 8, False, None, bytes(8), None, 0, -1)
    >>> keep(row).record in history(clear=True)
    True
    """
    late = LateRecord(with_thread_name(row))
    _last.append(late)
    return late
