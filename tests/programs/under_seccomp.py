"""Run the memprot command under a seccomp filter, as in a container whose profile refuses some system calls.

``under_seccomp.py errno|kill CALL,CALL... ARGUMENT...``: the calls answer EPERM, or kill the process.
"""

import ctypes
import errno
import os
import sys
from importlib import import_module

from memprot.cli.main import main

NUMBERS = {
    "x86_64": {"memfd_create": 319, "userfaultfd": 323, "clone": 56, "mprotect": 10},
    "aarch64": {"memfd_create": 279, "userfaultfd": 282, "clone": 220, "mprotect": 226},
}
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
SECCOMP_RET = {"errno": 0x00050000 | errno.EPERM, "kill": 0x80000000, "allow": 0x7FFF0000}
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
    program = [SockFilter(BPF_LD_W_ABS, 0, 0, 0)]
    for call in calls:
        program += [
            SockFilter(BPF_JMP_JEQ_K, 0, 1, numbers[call]),
            SockFilter(BPF_RET_K, 0, 0, SECCOMP_RET[action]),
        ]
    program.append(SockFilter(BPF_RET_K, 0, 0, SECCOMP_RET["allow"]))
    instructions = SockFprog(len(program), (SockFilter * len(program))(*program))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(instructions)
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


import_module("memprot.cli.doctor")  # before the filter: loading libraries needs mprotect too
install(sys.argv[1], sys.argv[2].split(","))
sys.argv[1:] = sys.argv[3:]
main()
