"""Causes that leave no trace: what remains when everything that can be looked at has been."""

import errno

from memprot.diagnosis.process import Process
from memprot.diagnosis.refusal import Refusal
from memprot.reason import Reason

__all__ = ["not_supported", "out_of_memory", "refused_by_policy"]


def out_of_memory(known: str, number: int = errno.ENOMEM) -> Refusal:
    """The kernel had no memory for its own tables, or a memory cgroup is full.

    :param known: what has been ruled out.

    >>> from memprot.diagnosis.unseen import out_of_memory
    >>> out_of_memory("every limit leaves room").explanation
    'every limit leaves room, so the kernel or the memory cgroup had no memory left'
    """
    return Refusal(
        number,
        Reason.OUT_OF_MEMORY,
        f"{known}, so the kernel or the memory cgroup had no memory left",
        "free memory, or see memory.max of the cgroup and the kernel's log",
    )


def refused_by_policy(process: Process, number: int, known: str) -> Refusal:
    """A security module or a seccomp filter refused.

    :param known: what has been ruled out.

    >>> import errno
    >>> from memprot.diagnosis.process import Process
    >>> from memprot.diagnosis.unseen import refused_by_policy
    >>> refused_by_policy(Process(), errno.EPERM, "nothing is sealed").reason
    <Reason.SECURITY_MODULE: 'security_module'>
    """
    if process.has_seccomp_filter():
        said = "the system calls of this process are filtered (seccomp), and the filter or a security module refused"
        advice = "see the sandbox, container or service (MemoryDenyWriteExecute=, SystemCallFilter=) it runs in"
    else:
        said = "a security module refused"
        advice = "see the kernel's log and the policy of the modules in /sys/kernel/security/lsm"
    return Refusal(number, Reason.SECURITY_MODULE, f"{known}, so {said}", advice)


def not_supported(what: str, hint: str, number: int = errno.ENOSYS) -> Refusal:
    """This kernel does not have it.

    >>> from memprot.diagnosis.unseen import not_supported
    >>> not_supported("mseal", "use Linux 6.10 or later").explanation
    'this kernel does not have mseal'
    """
    return Refusal(number, Reason.NOT_SUPPORTED, f"this kernel does not have {what}", hint)
