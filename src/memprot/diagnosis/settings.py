"""Why a setting of memory was refused: where pages lie, and what a process denies itself."""

import errno

from memprot.diagnosis.process import Process
from memprot.diagnosis.range import bad_argument, first_hole, hole, misaligned
from memprot.diagnosis.refusal import Refusal
from memprot.diagnosis.unseen import not_supported
from memprot.prot import PAGE_SIZE
from memprot.reason import Reason

__all__ = ["get_mempolicy_cause", "mbind_cause", "move_pages_cause", "policy_cause", "set_mdwe_cause"]

_WORD = 2**64 - 1


def set_mdwe_cause(number: int, bits: int) -> Refusal | None:
    """Why a process could not deny itself memory that becomes executable, or could not take it back.

    Source: PR_SET_MDWE(2const), kernel/sys.c.

    >>> import errno
    >>> from memprot.diagnosis.settings import set_mdwe_cause
    >>> set_mdwe_cause(errno.EPERM, 0).reason
    <Reason.NOT_PERMITTED: 'not_permitted'>
    """
    bits &= _WORD
    if number == errno.EPERM:
        said = "what a process has denied itself (PR_SET_MDWE) stays denied until it ends"
        return Refusal(number, Reason.NOT_PERMITTED, said, "set it later, or in a child process only")
    if number != errno.EINVAL:
        return None
    if bits & ~3:
        said = f"the bits {bits:#x} are unknown"
        return Refusal(number, Reason.UNKNOWN_FLAGS, said, "use memprot.calls.DenyWriteExecute")
    if bits == 2:
        said = "NO_INHERIT says how to deny, and nothing is denied"
        return Refusal(number, Reason.BAD_ARGUMENT, said, "add DenyWriteExecute.REFUSE_EXEC_GAIN")
    return not_supported("PR_SET_MDWE", "memprot.features.available('mdwe') tells beforehand (Linux 6.3)", number)


def mbind_cause(number: int, address: int, length: int, mode: int, *_: object) -> Refusal | None:
    """The cause of a failed mbind. It says EFAULT where nothing is mapped.

    Source: mbind(2), mm/mempolicy.c.

    >>> import errno
    >>> from memprot.diagnosis.settings import mbind_cause
    >>> mbind_cause(errno.EFAULT, 0, 4096, 0).reason
    <Reason.HOLE: 'hole'>
    """
    address, length = address & _WORD, length & _WORD
    if number == errno.EFAULT:
        place = first_hole(Process(), address, address + -(-length // PAGE_SIZE) * PAGE_SIZE)
        return None if place is None else hole(*place, number)
    if number == errno.EINVAL and address % PAGE_SIZE:
        return misaligned(address)
    return policy_cause(number)


def policy_cause(number: int, *_: object) -> Refusal | None:
    """Why a memory policy was not taken.

    >>> import errno
    >>> from memprot.diagnosis.settings import policy_cause
    >>> policy_cause(errno.EPERM).reason
    <Reason.NOT_PERMITTED: 'not_permitted'>
    """
    if number == errno.EINVAL:
        said = "mode, flags and nodes do not go together, or a node is not there"
        return Refusal(number, Reason.BAD_ARGUMENT, said, "see memprot.calls.NumaMode, and /sys/devices/system/node")
    if number == errno.EPERM:
        return Refusal(number, Reason.NOT_PERMITTED, "moving pages that others use is privileged", "needs CAP_SYS_NICE")
    if number == errno.ENOSYS:
        return not_supported("memory policies (CONFIG_NUMA)", "go without: there is one node")
    return None


def get_mempolicy_cause(number: int, address: int | None = None) -> Refusal | None:
    """Why the memory policy could not be had.

    Source: get_mempolicy(2), mm/mempolicy.c.

    >>> import errno
    >>> from memprot.diagnosis.settings import get_mempolicy_cause
    >>> get_mempolicy_cause(errno.EFAULT, 0).reason
    <Reason.HOLE: 'hole'>
    """
    if number != errno.EFAULT or address is None:
        return policy_cause(number)
    page = (address & _WORD) // PAGE_SIZE * PAGE_SIZE
    return hole(page, page + PAGE_SIZE, number)


def move_pages_cause(number: int, pid: int, *_: object) -> Refusal | None:
    """Why pages were not moved between nodes. What was wrong with a single page is its status.

    Source: move_pages(2), mm/migrate.c.

    >>> import errno
    >>> from memprot.diagnosis.settings import move_pages_cause
    >>> move_pages_cause(errno.ENODEV, 0).reason
    <Reason.BAD_ARGUMENT: 'bad_argument'>
    """
    if number == errno.ESRCH:
        return bad_argument(number, f"there is no process {pid}", "pass 0 for the one that asks")
    if number == errno.ENODEV:
        said = "one of the nodes is not there, or has no memory"
        return bad_argument(number, said, "see /sys/devices/system/node/has_memory")
    if number == errno.EACCES:
        said = "one of the nodes is not among those that the process may use"
        return Refusal(number, Reason.NOT_PERMITTED, said, "see Mems_allowed in /proc/PID/status, and its cpuset")
    if number == errno.EINVAL:
        return Refusal(
            number, Reason.UNKNOWN_FLAGS, "the flags mean nothing", "use memprot.calls.NumaFlag.MOVE or MOVE_ALL"
        )
    if number == errno.EPERM:
        said = f"the pages of process {pid} may not be moved by this one, or others use them and that is privileged"
        return Refusal(
            number, Reason.NOT_PERMITTED, said, "needs CAP_SYS_NICE, and CAP_SYS_PTRACE for others' processes"
        )
    return policy_cause(number)
