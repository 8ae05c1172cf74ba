"""Run the memprot command under a seccomp filter, as in a container whose profile refuses some system calls.

``under_seccomp.py ACTION CALL,CALL... ARGUMENT...``: the calls kill the process, or fail with an errno such as
EPERM. ``guard_install`` is madvise with that advice. With ``python`` in front of the arguments they are a command
line for plain Python.
"""

import ctypes
import errno
import os
import sys
from importlib import import_module

from memprot.cli.main import main

NUMBERS = {
    "x86_64": {
        "memfd_create": 319,
        "mseal": 462,
        "userfaultfd": 323,
        "clone": 56,
        "mprotect": 10,
        "guard_install": 28,
        "perf_event_open": 298,
        "process_vm_readv": 310,
    },
    "aarch64": {
        "memfd_create": 279,
        "mseal": 462,
        "userfaultfd": 282,
        "clone": 220,
        "mprotect": 226,
        "guard_install": 233,
        "perf_event_open": 241,
        "process_vm_readv": 270,
    },
}
MADV_GUARD_INSTALL = 102
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
RET_ERRNO, RET_KILL, RET_ALLOW = 0x00050000, 0x80000000, 0x7FFF0000
CALL, ADVICE = 0, 32  # offsets in struct seccomp_data: the number, and the third argument
BPF_LD_W_ABS, BPF_JMP_JEQ_K, BPF_RET_K = 0x20, 0x15, 0x06


class SockFilter(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jump_true", ctypes.c_uint8),
        ("jump_false", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(SockFilter)))


def install(action: str, calls: list[str]) -> None:
    numbers = NUMBERS[os.uname().machine]
    answer = RET_KILL if action == "kill" else RET_ERRNO | getattr(errno, action)
    program = []
    for call in calls:
        tests = [(CALL, numbers[call])]
        if call == "guard_install":
            tests.append((ADVICE, MADV_GUARD_INSTALL))
        for left, (offset, value) in zip(range(len(tests), 0, -1), tests, strict=True):
            program += [SockFilter(BPF_LD_W_ABS, 0, 0, offset), SockFilter(BPF_JMP_JEQ_K, 0, 2 * left - 1, value)]
        program.append(SockFilter(BPF_RET_K, 0, 0, answer))
    program.append(SockFilter(BPF_RET_K, 0, 0, RET_ALLOW))
    instructions = SockFprog(len(program), (SockFilter * len(program))(*program))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(instructions)
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


import_module("memprot.cli.doctor")  # before the filter: loading libraries needs mprotect too
install(sys.argv[1], sys.argv[2].split(","))
if sys.argv[3] == "python":
    os.execv(sys.executable, [sys.executable, *sys.argv[4:]])
sys.argv[1:] = sys.argv[3:]
main()
