"""Denying the process memory that is, or was, writable and becomes executable.

>>> from memprot import write_execute_denied
>>> write_execute_denied()
False
"""

import errno as numbers

import memprot.calls as calls
from memprot.errors import ProtectionError
from memprot.flags import DenyWriteExecute
from memprot.reason import Reason

__all__ = ["deny_write_execute", "write_execute_denied"]


def deny_write_execute(inherit: bool = True) -> None:
    """Deny this process, for good, memory that is writable and executable, or becomes executable later.

    From now on the kernel refuses with EACCES to map memory that is both, and to make executable what was not.
    What is so already stays so. Threads are covered, and programs that the process turns into. There is no way back;
    asking again for the same is allowed. memprot itself needs no such memory. Code that is made at run time (numba,
    a JIT, some libffi closures) does.

    :param inherit: whether children forked from now on are denied it too.
    :raises TypeError: ``inherit`` is no bool.
    :raises memprot.ProtectionError: EPERM when it was denied with the other ``inherit``; ``Reason.NOT_SUPPORTED`` where
        the kernel or the architecture lacks it.

    Source: PR_SET_MDWE(2const), kernel/sys.c, mm/mprotect.c.

    >>> import subprocess, sys
    >>> program = "from memprot import *; deny_write_execute(); print(write_execute_denied()); Region(1, 'rwx')"
    >>> done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    >>> done.stdout, "EACCES" in done.stderr
    ('True\\n', True)
    """
    if not isinstance(inherit, bool):
        raise TypeError(f"inherit must be a bool, not {type(inherit).__name__}")
    wanted = DenyWriteExecute.REFUSE_EXEC_GAIN
    if not inherit:
        wanted |= DenyWriteExecute.NO_INHERIT
    try:
        calls.set_mdwe(wanted)
    except ProtectionError as error:
        if error.errno == numbers.EPERM:
            raise _settled_otherwise(wanted, inherit) from None
        if error.errno == numbers.EINVAL:
            raise _unsupported(wanted) from None
        raise


def _settled_otherwise(wanted: int, inherit: bool) -> ProtectionError:
    now = "without" if inherit else "with"
    return ProtectionError(
        numbers.EPERM,
        "set_mdwe",
        (int(wanted),),
        reason=Reason.DENY_WRITE_EXECUTE,
        explanation=f"it is denied already, {now} inheritance by children, and the kernel lets nobody change that",
        hint=f"deny_write_execute(inherit={not inherit}) is what is in force",
    )


def _unsupported(wanted: int) -> ProtectionError:
    return ProtectionError(
        numbers.EINVAL,
        "set_mdwe",
        (int(wanted),),
        reason=Reason.NOT_SUPPORTED,
        explanation="this kernel cannot deny it",
        hint="Linux 6.3 and later can on x86-64 and arm64, without inheritance 6.6 and later",
    )


def write_execute_denied() -> bool:
    """Whether the process has denied itself memory that becomes executable.

    False where the kernel cannot deny it.

    Source: PR_GET_MDWE(2const).

    >>> from memprot import write_execute_denied
    >>> write_execute_denied()
    False
    """
    try:
        return bool(calls.get_mdwe() & DenyWriteExecute.REFUSE_EXEC_GAIN)
    except ProtectionError as error:
        if error.errno == numbers.EINVAL:
            return False
        raise
