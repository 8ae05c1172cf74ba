"""Limits that memory runs into: mappings, data, addresses, locked memory, and what the kernel promises."""

import errno
import os
import resource

from memprot._native import Mapping
from memprot.diagnosis.place import amount, named
from memprot.diagnosis.process import Memory, Process, max_map_count, memory_of_the_system, overcommit_mode
from memprot.diagnosis.refusal import Refusal
from memprot.prot import PAGE_SIZE
from memprot.reason import Reason

__all__ = ["address_space_limit", "beyond_promise", "data_limit", "lock_limit", "mapping_limit", "overcommit"]

_NONE = 2**64 - 1


def mapping_limit(count: int, needed: int, mapping: Mapping | None = None) -> Refusal:
    """The process has as many mappings as it may.

    :param count: how many it has.
    :param needed: how many more the call makes.
    :param mapping: the one that has to be split.

    >>> from memprot.diagnosis.limits import mapping_limit
    >>> mapping_limit(65530, 2).hint.startswith("unmap something")
    True
    """
    split = "" if mapping is None else f"{named(mapping)} has to be split into {needed + 1}, but "
    return Refusal(
        errno.ENOMEM,
        Reason.MAPPING_LIMIT,
        f"{split}the process has {count} mappings, and vm.max_map_count is {max_map_count()}",
        "unmap something, make neighbours alike so that they merge, or raise vm.max_map_count "
        "(sysctl -w vm.max_map_count=262144)",
        *(() if mapping is None else (mapping.start, mapping.stop, mapping)),
    )


def data_limit(process: Process, size: int) -> Refusal | None:
    """Whether RLIMIT_DATA forbids so many more bytes of private writable memory.

    >>> from memprot.diagnosis.limits import data_limit
    >>> from memprot.diagnosis.process import Process
    >>> data_limit(Process(), 0)
    """
    if process.limit(resource.RLIMIT_DATA) == _NONE:
        return None
    used, allowed = process.data_room()
    if (used + size) // PAGE_SIZE <= allowed // PAGE_SIZE or _address_space(process, size) is not None:
        return None
    return Refusal(
        errno.ENOMEM,
        Reason.DATA_LIMIT,
        f"the process has {amount(used)} of private writable memory, {amount(size)} more were asked for, "
        f"and RLIMIT_DATA is {amount(allowed)}",
        "raise RLIMIT_DATA (ulimit -d), or give writable memory back first",
    )


def address_space_limit(process: Process, size: int) -> Refusal | None:
    """Whether RLIMIT_AS forbids so many more bytes of addresses.

    >>> from memprot.diagnosis.limits import address_space_limit
    >>> from memprot.diagnosis.process import Process
    >>> address_space_limit(Process(), 0)
    """
    exceeded = _address_space(process, size)
    if exceeded is None:
        return None
    used, allowed = exceeded
    return Refusal(
        errno.ENOMEM,
        Reason.ADDRESS_SPACE_LIMIT,
        f"the process has {amount(used)} mapped, {amount(size)} more were asked for, and RLIMIT_AS is "
        f"{amount(allowed)}",
        "raise RLIMIT_AS (ulimit -v), or unmap something first",
    )


def _address_space(process: Process, size: int) -> tuple[int, int] | None:
    allowed = process.limit(resource.RLIMIT_AS)
    if allowed == _NONE:
        return None
    used = process.status("VmSize")
    return (used, allowed) if (used + size) // PAGE_SIZE > allowed // PAGE_SIZE else None


def lock_limit(process: Process, size: int, number: int) -> Refusal | None:
    """Whether RLIMIT_MEMLOCK forbids so many more bytes of locked memory.

    :param number: the errno of the call that failed: EPERM when nothing may be locked, EAGAIN for mmap.

    >>> import errno
    >>> from memprot.diagnosis.limits import lock_limit
    >>> from memprot.diagnosis.process import Process
    >>> lock_limit(Process(), 0, errno.ENOMEM)
    """
    allowed = process.limit(resource.RLIMIT_MEMLOCK)
    used = process.status("VmLck")
    if allowed == _NONE or (used + size <= allowed and (size == 0 or allowed > 0)):
        return None
    return Refusal(
        number,
        Reason.LOCK_LIMIT,
        f"the process has {amount(used)} locked, {amount(size)} more were asked for, and RLIMIT_MEMLOCK is "
        f"{amount(allowed)}",
        "raise RLIMIT_MEMLOCK (ulimit -l), unlock something first, or run with CAP_IPC_LOCK",
    )


def overcommit(size: int, reserved: bool = True) -> Refusal | None:
    """Whether the kernel promises so many more bytes of memory.

    :param reserved: False with MapFlag.NORESERVE, which only mode 2 does not heed.

    In mode 2 the limit is kept with some slack for root, so that near it the answer is a guess.

    Source: __vm_enough_memory in mm/util.c.

    >>> from memprot.diagnosis.limits import overcommit
    >>> overcommit(0)
    """
    mode = overcommit_mode()
    if mode == 1 or (mode == 0 and not reserved) or (mode == 0 and size <= os.sysconf("SC_PHYS_PAGES") * PAGE_SIZE):
        return None
    return beyond_promise(memory_of_the_system(), size)


def beyond_promise(memory: Memory, size: int) -> Refusal | None:
    """The same, when the memory of the system is known.

    >>> from memprot.diagnosis.limits import beyond_promise
    >>> from memprot.diagnosis.process import Memory
    >>> beyond_promise(Memory(mode=2, total=8 << 30, commit_limit=4 << 30, committed=4 << 30), 4096).reason
    <Reason.OVERCOMMIT: 'overcommit'>
    """
    if memory.mode == 0 and size > memory.total:
        said = f"{amount(size)} of writable memory are more than memory and swap together ({amount(memory.total)})"
        advice = "map it with MapFlag.NORESERVE, ask for less, or set vm.overcommit_memory to 1"
    elif memory.mode == 2 and memory.committed + size >= memory.commit_limit:
        said = (
            f"{amount(memory.committed)} of {amount(memory.commit_limit)} are promised already (Committed_AS and "
            f"CommitLimit in /proc/meminfo; vm.overcommit_memory is 2), and {amount(size)} more were asked for"
        )
        advice = "ask for less, add swap, or raise vm.overcommit_ratio"
    else:
        return None
    return Refusal(errno.ENOMEM, Reason.OVERCOMMIT, said, advice)
