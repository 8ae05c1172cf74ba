"""memfd_create, memfd_secret, shm_open and shm_unlink against the running kernel and the C library."""

import ctypes
import errno
import fcntl
import os
import secrets
import stat
import subprocess
from collections.abc import Callable, Iterator

import pytest

from memprot import PAGE_SIZE, Prot, calls, features
from memprot.calls import MapFlag, MemfdFlag, Seal, SecretFlag

Answer = Callable[..., str]
RunChild = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def name() -> Iterator[str]:
    """A name that nobody else has; what gets it is gone after the test."""
    name = f"/memprot-test-{secrets.token_hex(8)}"
    yield name
    path = f"/dev/shm{name}"
    if os.path.lexists(path):
        os.unlink(path)


@pytest.mark.parametrize("flags", [0x20, 1 << 31, MemfdFlag.EXEC | MemfdFlag.NOEXEC_SEAL])
def test_each_refusal_of_memfd_create(answer: Answer, flags: int) -> None:
    assert answer(calls.memfd_create, "x", flags) == "EINVAL"
    assert answer(calls.memfd_create, "x" * 250, 0) == "EINVAL"


def test_seals_have_the_kernels_numbers_and_bind() -> None:
    fd = calls.memfd_create("sealed", MemfdFlag.CLOEXEC | MemfdFlag.ALLOW_SEALING)
    os.ftruncate(fd, PAGE_SIZE)
    seals = Seal.SHRINK | Seal.GROW | Seal.WRITE | Seal.SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    assert Seal(fcntl.fcntl(fd, fcntl.F_GET_SEALS)) == seals
    for attempt in (
        lambda: os.ftruncate(fd, 0),
        lambda: os.ftruncate(fd, 2 * PAGE_SIZE),
        lambda: os.pwrite(fd, b"x", 0),
    ):
        with pytest.raises(PermissionError):
            attempt()
    with pytest.raises(PermissionError):
        calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, MapFlag.SHARED, fd)
    os.close(fd)


def test_the_secret_flag_is_the_one_that_the_kernel_takes(answer: Answer) -> None:
    if not features.available("memfd_secret"):
        assert answer(calls.memfd_secret) == "ENOSYS"
        return
    for flags, inheritable in ((SecretFlag(0), True), (SecretFlag.CLOEXEC, False)):
        fd = calls.memfd_secret(flags)
        assert os.get_inheritable(fd) is inheritable
        os.close(fd)
    assert answer(calls.memfd_secret, fcntl.FD_CLOEXEC) == "EINVAL"
    assert answer(calls.memfd_secret, 1 << 31) == "EINVAL"


def test_secret_memory_can_be_used_but_not_be_read_from_outside(answer: Answer) -> None:
    if not features.available("memfd_secret"):
        assert answer(calls.memfd_secret) == "ENOSYS"
        return
    fd = calls.memfd_secret(SecretFlag.CLOEXEC)
    os.ftruncate(fd, PAGE_SIZE)
    address = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, MapFlag.SHARED, fd)
    os.close(fd)
    ctypes.memset(address, 7, 1)
    assert ctypes.string_at(address, 1) == b"\7"
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        with pytest.raises(OSError, match="Errno"):
            memory.read(1)
    calls.munmap(address, PAGE_SIZE)


def test_shared_memory_is_made_found_and_unlinked(name: str, answer: Answer) -> None:
    assert answer(calls.shm_open, name, os.O_RDWR) == "ENOENT"
    fd = calls.shm_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    assert not os.get_inheritable(fd)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
    os.ftruncate(fd, PAGE_SIZE)
    again = calls.shm_open(name, os.O_RDONLY)
    address = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, MapFlag.SHARED, fd)
    assert answer(calls.mmap, 0, PAGE_SIZE, Prot.READ | Prot.WRITE, MapFlag.SHARED, again) == "EACCES"
    ctypes.memset(address, 7, 1)
    assert os.pread(again, 1, 0) == b"\7"
    calls.munmap(address, PAGE_SIZE)
    assert answer(calls.shm_open, name, os.O_RDWR | os.O_CREAT | os.O_EXCL) == "EEXIST"
    calls.shm_unlink(name)
    assert answer(calls.shm_unlink, name) == "ENOENT"
    assert os.pread(again, 1, 0) == b"\7"
    os.close(fd)
    os.close(again)


def test_the_mode_is_lessened_by_the_umask(name: str) -> None:
    before = os.umask(0o027)
    try:
        fd = calls.shm_open(name, os.O_RDWR | os.O_CREAT, 0o777)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o750
    os.close(fd)


def test_a_symbolic_link_is_not_followed(name: str, answer: Answer) -> None:
    os.symlink("/dev/null", f"/dev/shm{name}")
    assert answer(calls.shm_open, name, os.O_RDONLY) == "ELOOP"


def test_the_python_library_finds_the_same_memory(name: str) -> None:
    fd = calls.shm_open(name.encode(), os.O_RDWR | os.O_CREAT)
    assert os.path.samestat(os.fstat(fd), os.stat(f"/dev/shm{name}"))
    os.close(fd)


@pytest.mark.parametrize(
    "odd", ["", "/", "///", "a/b", "/a/b", "/.", "/..", "/memprot-none", "//memprot-none", "memprot-none", "x" * 256]
)
def test_the_answers_are_those_of_the_c_library(answer: Answer, odd: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.shm_open(odd.encode(), os.O_RDWR, 0) == -1
    assert answer(calls.shm_open, odd, os.O_RDWR, 0) == errno.errorcode[ctypes.get_errno()]
    assert libc.shm_unlink(odd.encode()) == -1
    assert answer(calls.shm_unlink, odd) == errno.errorcode[ctypes.get_errno()]


def test_a_name_longer_than_a_path_is_refused(answer: Answer) -> None:
    assert answer(calls.shm_open, "x" * 5000, os.O_RDWR) == "ENAMETOOLONG"
    assert answer(calls.shm_unlink, "x" * 5000) == "ENAMETOOLONG"


def test_without_permission_neither_opened_nor_unlinked(name: str, run_child: RunChild) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    os.close(calls.shm_open(name, os.O_RDWR | os.O_CREAT))
    done = run_child(FOREIGN, name)
    assert done.stdout.splitlines() == ["EACCES True", "EACCES True"]


FOREIGN = """
import errno, os, sys
from memprot import ProtectionError, calls
os.setresuid(65534, 65534, 65534)
for call in (lambda: calls.shm_open(sys.argv[1], os.O_RDONLY), lambda: calls.shm_unlink(sys.argv[1])):
    try:
        call()
    except ProtectionError as error:
        print(errno.errorcode[error.errno], isinstance(error, PermissionError))
"""
