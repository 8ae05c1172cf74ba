"""memprot.calls against the running kernel."""

import ctypes
import errno
import os
import re
import resource
import subprocess
import sys
import threading
from typing import Any

import pytest

from memprot import PAGE_SIZE, AddressSpace, Prot, ProtectionError, _native, calls, mprotect
from memprot.diagnosis.factory import diagnosed
from memprot.flags import Advice, MapFlag, MemfdFlag

ANONYMOUS = MapFlag.PRIVATE | MapFlag.ANONYMOUS
RW = Prot.READ | Prot.WRITE


def prot_of(address: int) -> Prot | None:
    mapping = AddressSpace().find(address)
    return None if mapping is None else mapping.prot


def test_mprotect_changes_exactly_the_pages_of_the_range(pages: int) -> None:
    calls.mprotect(pages + PAGE_SIZE, 1, Prot.READ)
    assert [prot_of(pages + n * PAGE_SIZE) for n in range(4)] == [RW, Prot.READ, RW, RW]


def test_the_call_at_the_top_is_the_very_function_of_the_binding() -> None:
    assert mprotect is calls.mprotect is _native.mprotect


def test_a_protection_reaches_the_kernel_whole(pages: int) -> None:
    with pytest.raises(ProtectionError) as caught:
        calls.mprotect(pages, PAGE_SIZE, 1 << 32 | 5)
    assert caught.value.errno == errno.EINVAL
    assert prot_of(pages) == RW


@pytest.mark.parametrize(
    ("start", "length", "prot"),
    [
        (1, 4096, 1),
        (0, PAGE_SIZE, 1 << 32 | 5),
        (0, PAGE_SIZE, -1),
        (0, -1, 1),
        (0, 2**64 - PAGE_SIZE, 1),
        (0, 2**63, 1),
        (0, 1 << 40, 1),
        (0, 0, 1 << 40),
        (0, 0, 7),
    ],
)
def test_the_answer_is_that_of_the_raw_system_call(pages: int, start: int, length: int, prot: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 10, "aarch64": 226}[os.uname().machine]
    word = ctypes.c_ulong
    status = libc.syscall(word(number), word(pages + start), word(length), word(prot))
    expected = ctypes.get_errno() if status else 0
    if expected:
        with pytest.raises(ProtectionError) as caught:
            calls.mprotect(pages + start, length, prot)
        assert caught.value.errno == expected
    else:
        calls.mprotect(pages + start, length, prot)


def test_mmap_maps_a_file_at_an_offset() -> None:
    fd = calls.memfd_create("numbers", MemfdFlag.CLOEXEC)
    try:
        os.pwrite(fd, b"second page", PAGE_SIZE)
        address = calls.mmap(0, PAGE_SIZE, Prot.READ, MapFlag.SHARED, fd, PAGE_SIZE)
    finally:
        os.close(fd)
    try:
        assert ctypes.string_at(address) == b"second page"
        found = AddressSpace().find(address)
        assert found is not None
        assert (found.path, found.kind, found.offset, found.shared) == (
            "/memfd:numbers",
            "memfd",
            PAGE_SIZE,
            True,
        )
    finally:
        calls.munmap(address, PAGE_SIZE)


def test_madvise_drops_pages(pages: int) -> None:
    ctypes.memset(pages, 7, PAGE_SIZE)
    calls.madvise(pages, PAGE_SIZE, Advice.DONTNEED)
    assert ctypes.string_at(pages, 1) == b"\0"


def test_memfd_is_closed_on_exec_unless_asked_otherwise() -> None:
    for flags, inheritable in (((), False), ((0,), True)):
        fd = calls.memfd_create("x", *flags)
        assert os.get_inheritable(fd) is inheritable
        os.close(fd)


@pytest.mark.parametrize("name", ["plain", b"bytes\xff", "surrogate\udcff", "", "new\nline"])
def test_memfd_names_are_kept_to_the_byte(name: str | bytes) -> None:
    fd = calls.memfd_create(name)
    try:
        assert os.readlink(f"/proc/self/fd/{fd}".encode()) == b"/memfd:" + os.fsencode(name) + b" (deleted)"
    finally:
        os.close(fd)


FAILURES: list[tuple[str, tuple[Any, ...], int]] = [
    ("mprotect", (0, PAGE_SIZE, 1), errno.ENOMEM),
    ("mmap", (0, 0, 1, ANONYMOUS), errno.EINVAL),
    ("mmap", (0, PAGE_SIZE, 1, MapFlag.PRIVATE), errno.EBADF),
    ("munmap", (1, PAGE_SIZE), errno.EINVAL),
    ("pkey_mprotect", (0, PAGE_SIZE, 1, -1), errno.ENOMEM),
    ("pkey_alloc", (1, 0), errno.EINVAL),
    ("pkey_free", (15,), errno.EINVAL),
    ("pkey_get", (16,), errno.EINVAL),
    ("pkey_get", (-1,), errno.EINVAL),
    ("pkey_set", (1 << 32, 0), errno.EINVAL),
    ("pkey_set", (0, 1 << 32), errno.EINVAL),
    ("mseal", (0, PAGE_SIZE), errno.ENOMEM),
    ("mseal", (0, PAGE_SIZE, 1), errno.EINVAL),
    ("mremap", (0, PAGE_SIZE, PAGE_SIZE), errno.EFAULT),
    ("mremap", (0, PAGE_SIZE, PAGE_SIZE, 1 << 32, 0), errno.EINVAL),
    ("mlock", (0, PAGE_SIZE), errno.ENOMEM),
    ("mlock2", (0, PAGE_SIZE, 2), errno.EINVAL),
    ("munlock", (0, PAGE_SIZE), errno.ENOMEM),
    ("mlockall", (0,), errno.EINVAL),
    ("brk", (1,), errno.ENOMEM),
    ("brk", (-1,), errno.ENOMEM),
    ("sbrk", (1 << 63,), errno.ENOMEM),
    ("sbrk", (-(1 << 63),), errno.ENOMEM),
    ("sbrk", (1 << 47,), errno.ENOMEM),
    ("set_mdwe", (1 << 32,), errno.EINVAL),
    ("shm_open", ("/no/such", os.O_RDONLY), errno.EINVAL),
    ("shm_open", ("/memprot-no-such", os.O_RDONLY), errno.ENOENT),
    ("shm_unlink", ("/memprot-no-such",), errno.ENOENT),
    ("shm_unlink", ("/",), errno.ENOENT),
    ("madvise", (0, PAGE_SIZE, 9999), errno.EINVAL),
    ("memfd_create", ("x" * 250,), errno.EINVAL),
]


@pytest.mark.parametrize(("name", "arguments", "number"), FAILURES)
def test_a_failure_carries_the_call_and_the_errno(name: str, arguments: tuple[Any, ...], number: int) -> None:
    with pytest.raises(ProtectionError) as caught:
        getattr(calls, name)(*arguments)
    assert (caught.value.errno, caught.value.call) == (number, name)
    assert re.match(rf"{name} (of|to|with) ", str(caught.value))
    assert "\n" not in str(caught.value)


def test_a_read_only_file_cannot_be_mapped_writable_and_that_is_a_permission_error() -> None:
    with open("/proc/self/exe", "rb") as file, pytest.raises(PermissionError) as caught:
        calls.mmap(0, PAGE_SIZE, RW, MapFlag.SHARED, file.fileno(), 0)
    assert isinstance(caught.value, ProtectionError)
    assert caught.value.errno == errno.EACCES


def test_an_occupied_address_is_reported_and_left_alone(pages: int) -> None:
    with pytest.raises(ProtectionError) as caught:
        calls.mmap(pages, PAGE_SIZE, Prot.NONE, ANONYMOUS | MapFlag.FIXED_NOREPLACE)
    assert caught.value.errno == errno.EEXIST
    assert prot_of(pages) == RW


def test_without_a_factory_the_error_is_a_plain_oserror() -> None:
    _native.set_error_factory(None)
    try:
        with pytest.raises(OSError, match="Invalid") as caught:
            calls.munmap(1, 1)
    finally:
        _native.set_error_factory(diagnosed)
    assert type(caught.value) is OSError
    assert caught.value.errno == errno.EINVAL


def test_a_factory_without_memory_leaves_the_plain_oserror() -> None:
    def exhausted(number: int, call: str, arguments: tuple[object, ...]) -> OSError:
        raise MemoryError

    _native.set_error_factory(exhausted)
    try:
        with pytest.raises(OSError, match="Invalid"):
            calls.munmap(1, 1)
    finally:
        _native.set_error_factory(diagnosed)


def test_a_factory_gets_every_argument_and_what_it_raises_is_seen() -> None:
    seen: list[object] = []

    def factory(number: int, call: str, arguments: tuple[object, ...]) -> OSError:
        seen.append((number, call, arguments))
        raise KeyError(call)

    _native.set_error_factory(factory)
    try:
        with pytest.raises(KeyError):
            calls.mmap(0, 0, Prot.READ, ANONYMOUS)
    finally:
        _native.set_error_factory(diagnosed)
    assert seen == [(errno.EINVAL, "mmap", (0, 0, Prot.READ, ANONYMOUS, -1, 0))]
    with pytest.raises(TypeError, match="int"):
        _native.set_error_factory(3)  # type: ignore[arg-type]


def test_other_threads_run_while_a_long_call_does() -> None:
    size = 256 << 20
    running = threading.Event()
    address = calls.mmap(0, size, RW, ANONYMOUS)
    try:
        # One interpreter switch in ten seconds: only a released lock lets the other thread in.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(10)
        try:
            thread = threading.Thread(target=running.set)
            thread.start()
            while not running.is_set():
                calls.madvise(address, size, Advice.DONTNEED)
        finally:
            sys.setswitchinterval(interval)
        thread.join()
    finally:
        calls.munmap(address, size)


def test_the_error_is_exact_with_no_descriptor_left() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open("/dev/null") as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno(), hard))
        try:
            with pytest.raises(ProtectionError) as caught:
                calls.memfd_create("x")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
    assert "RLIMIT_NOFILE" in str(caught.value.hint)


AT_THE_LIMIT = """
from memprot import PAGE_SIZE, ProtectionError, calls
from memprot.flags import MapFlag
limit = int(open("/proc/sys/vm/max_map_count").read())
size = 2 * limit * PAGE_SIZE
start = calls.mmap(0, size, 1, MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.NORESERVE)
for address in range(start, start + size, 2 * PAGE_SIZE):
    try:
        calls.mprotect(address, PAGE_SIZE, 3)
    except ProtectionError as error:
        print(error.errno, error.call, hex(error._arguments[0]) == hex(address))
        break
calls.munmap(start, size)
"""


def test_the_error_is_exact_at_the_mapping_count_limit() -> None:
    with open("/proc/sys/vm/max_map_count") as file:
        if int(file.read()) > 100_000:
            pytest.skip("this system allows so many mappings that reaching the limit takes too long")
    done = subprocess.run([sys.executable, "-c", AT_THE_LIMIT], capture_output=True, text=True, check=True)
    assert done.stdout == f"{errno.ENOMEM} mprotect True\n"
