"""brk and sbrk against the running kernel, beside the C library's malloc."""

import subprocess
from collections.abc import Callable

import pytest

from memprot import AddressSpace, calls

Answer = Callable[..., str]
RunChild = Callable[..., subprocess.CompletedProcess[str]]


def test_the_break_is_where_the_heap_ends() -> None:
    found = AddressSpace().find(calls.brk() - 1)
    assert found is not None
    assert found.path == "[heap]"
    assert calls.brk(0) == calls.sbrk(0) == calls.brk()


@pytest.mark.parametrize("address", [1, 4096, -1, 1 << 63, (1 << 64) - 4096, 1 << 47])
def test_a_break_that_the_kernel_does_not_set_is_an_error_and_stays(answer: Answer, address: int) -> None:
    before = calls.brk()
    assert answer(calls.brk, address) == "ENOMEM"
    assert calls.brk() >= before  # more only where malloc needed it meanwhile


@pytest.mark.parametrize("n", [1 << 47, 1 << 63, (1 << 64) - 4096, (1 << 63) - 1, -(1 << 62), -(1 << 63)])
def test_a_step_that_the_kernel_does_not_make_is_an_error_and_the_break_stays(answer: Answer, n: int) -> None:
    before = calls.brk()
    assert answer(calls.sbrk, n) == "ENOMEM"
    assert calls.brk() >= before


GROWING = """
import ctypes
from memprot import PAGE_SIZE, calls
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
# malloc gets so much in advance that it does not move the break before it is asked for more than that.
libc.mallopt(-2, 4 << 20)
before = calls.brk()
while calls.brk() == before:
    libc.malloc(100_000)
size = 5 * PAGE_SIZE + 3
start = calls.sbrk(size)
print(calls.brk() - start == size)
ctypes.memset(start, 7, size)
print(calls.brk(start + 2 * size) == start + 2 * size)
ctypes.memset(start, 7, 2 * size)
print(calls.sbrk(-size) == start + 2 * size, calls.brk() == start + size)
# The C library's malloc goes on beside the memory that was taken, and does not touch it.
print(libc.sbrk(0) == calls.brk())
blocks = [libc.malloc(3000) for _ in range(4000)]
for block in blocks:
    ctypes.memset(block, 1, 3000)
print(any(start <= block < start + size for block in blocks), calls.brk() > start + size)
print(ctypes.string_at(start, size) == bytes([7]) * size)
"""


def test_the_heap_grows_and_shrinks_and_malloc_knows(run_child: RunChild) -> None:
    done = run_child(GROWING)
    assert done.stdout.splitlines() == ["True", "True", "True True", "True", "False True", "True"], done.stderr


LIMITED = """
import errno, resource
from memprot import ProtectionError, calls
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
used = int(status["VmData"].split()[0]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + (16 << 20), resource.RLIM_INFINITY))
before = calls.brk()
for call, argument in ((calls.sbrk, 64 << 20), (calls.brk, before + (64 << 20))):
    try:
        call(argument)
    except ProtectionError as error:
        print(errno.errorcode[error.errno], calls.brk() < before + (64 << 20))
"""


def test_the_limit_of_data_is_an_error_and_the_break_stays(run_child: RunChild) -> None:
    assert run_child(LIMITED).stdout.splitlines() == ["ENOMEM True"] * 2
