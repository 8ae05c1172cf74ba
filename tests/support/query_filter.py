"""What makes a child program's kernel answer no questions about single addresses."""

import os

NUMBER_OF_IOCTL = {"x86_64": 16, "aarch64": 29}.get(os.uname().machine)
"""None where it is not known here."""

FILTER = f"""
import ctypes, errno, fcntl, struct
number = {NUMBER_OF_IOCTL}
def instruction(code, true, false, value):
    return struct.pack("HBBI", code, true, false, value)
code = b"".join([
    instruction(0x20, 0, 0, 0),  # load the number of the call
    instruction(0x15, 0, 1, number),
    instruction(0x06, 0, 0, 0x00050000 | errno.ENOTTY),
    instruction(0x06, 0, 0, 0x7FFF0000),
])
buffer = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
try:
    fcntl.ioctl(0, 0)
except OSError as error:
    assert error.errno == errno.ENOTTY
"""
"""A filter that answers ENOTTY to ioctl(2), as a kernel without PROCMAP_QUERY does."""
