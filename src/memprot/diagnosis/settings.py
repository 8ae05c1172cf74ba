"""Why a setting of memory was refused: where pages lie, and what a process denies itself."""

import errno

from memprot.diagnosis.process import Process
from memprot.diagnosis.range import first_hole, hole, misaligned
from memprot.diagnosis.refusal import Refusal
from memprot.diagnosis.unseen import not_supported
from memprot.prot import PAGE_SIZE
from memprot.reason import Reason

__all__ = ["mbind_cause", "policy_cause", "set_mdwe_cause"]

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
