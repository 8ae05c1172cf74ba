"""mlock, mlock2, munlock, mlockall and munlockall against the running kernel."""

import os
import resource
import subprocess
from collections.abc import Callable

import pytest

from memprot import PAGE_SIZE, calls
from memprot.calls import LockAllFlag, LockFlag

Answer = Callable[..., str]
VmFlags = Callable[[int], set[str]]
RunChild = Callable[..., subprocess.CompletedProcess[str]]
UNLIMITED = os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY


def resident(pages: int) -> list[int]:
    return [byte & 1 for byte in calls.mincore(pages, 4 * PAGE_SIZE)]


def test_mlock_reads_the_pages_in_and_keeps_them(pages: int, vm_flags: VmFlags) -> None:
    assert resident(pages) == [0, 0, 0, 0]
    calls.mlock(pages + PAGE_SIZE + 1, PAGE_SIZE)
    assert resident(pages) == [0, 1, 1, 0]
    assert ["lo" in vm_flags(pages + n * PAGE_SIZE) for n in range(4)] == [False, True, True, False]
    calls.munlock(pages, 4 * PAGE_SIZE)
    assert "lo" not in vm_flags(pages + PAGE_SIZE)


def test_mlock2_can_wait_until_pages_are_touched(pages: int, vm_flags: VmFlags) -> None:
    calls.mlock2(pages, PAGE_SIZE, LockFlag.ONFAULT)
    assert resident(pages) == [0, 0, 0, 0]
    assert "lo" in vm_flags(pages)
    calls.mlock2(pages, PAGE_SIZE, 0)
    assert resident(pages) == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("offset", "length", "flags", "expected"),
    [
        (0, PAGE_SIZE, 2, "EINVAL"),
        (4 * PAGE_SIZE, PAGE_SIZE, 0, "ENOMEM"),
        (0, 5 * PAGE_SIZE, 0, "ENOMEM"),
        (0, 0, 0, "success"),
        (1, 1, 0, "success"),
        (0, PAGE_SIZE, 1 << 32, "success"),
    ],
)
def test_each_refusal(pages: int, answer: Answer, offset: int, length: int, flags: int, expected: str) -> None:
    """The last one: of the flags the kernel sees 32 bits."""
    assert answer(calls.mlock2, pages + offset, length, flags) == expected
    if flags == 0:
        assert answer(calls.mlock, pages + offset, length) == expected
        assert answer(calls.munlock, pages + offset, length) == expected


def test_a_range_that_wraps_is_refused_unless_the_limit_refuses_it_first(pages: int, answer: Answer) -> None:
    assert answer(calls.munlock, pages, -PAGE_SIZE) == "EINVAL"
    expected = "EINVAL" if UNLIMITED else "ENOMEM"
    assert answer(calls.mlock, pages, -PAGE_SIZE) == answer(calls.mlock2, pages, -PAGE_SIZE, 0) == expected


def test_what_comes_before_a_hole_is_locked(pages: int, answer: Answer, vm_flags: VmFlags) -> None:
    assert answer(calls.mlock, pages, 5 * PAGE_SIZE) == "ENOMEM"
    assert "lo" in vm_flags(pages)


@pytest.mark.parametrize("flags", [0, LockAllFlag.ONFAULT, 8, 1 << 31])
def test_each_refusal_of_mlockall(answer: Answer, flags: int) -> None:
    assert answer(calls.mlockall, flags) == "EINVAL"


ALL = """
from memprot import PAGE_SIZE, calls
from memprot.calls import LockAllFlag, MapFlag
private = MapFlag.PRIVATE | MapFlag.ANONYMOUS
def locked():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmLck")).split()[1])
calls.mlockall(LockAllFlag.CURRENT | LockAllFlag.ONFAULT)
print(locked() > 0)
calls.mlockall(LockAllFlag.FUTURE)
address = calls.mmap(0, 8 * PAGE_SIZE, 3, private)
print(calls.mincore(address, 8 * PAGE_SIZE) == b"\\x01" * 8)
calls.munlockall()
print(locked())
address = calls.mmap(0, 8 * PAGE_SIZE, 3, private)
print(calls.mincore(address, 8 * PAGE_SIZE) == bytes(8))
"""


def test_mlockall_locks_what_is_there_and_what_comes(run_child: RunChild) -> None:
    done = run_child(ALL)
    if UNLIMITED:
        assert done.stdout.splitlines() == ["True", "True", "0", "True"]
    else:
        assert "mlockall with flags 0x5 failed with ENOMEM" in done.stderr


LIMITED = """
import errno, os, resource
from memprot import PAGE_SIZE, ProtectionError, calls
from memprot.calls import LockAllFlag, MapFlag
address = calls.mmap(0, 8 * PAGE_SIZE, 3, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
def ask(call, *arguments):
    try:
        call(*arguments)
    except ProtectionError as error:
        print(errno.errorcode[error.errno])
    else:
        print("success")
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
resource.setrlimit(resource.RLIMIT_MEMLOCK, (4 * PAGE_SIZE, 4 * PAGE_SIZE))
ask(calls.mlock, address, 4 * PAGE_SIZE)
ask(calls.mlock, address, 8 * PAGE_SIZE)
ask(calls.mlockall, LockAllFlag.CURRENT)
calls.munlock(address, 4 * PAGE_SIZE)
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
ask(calls.mlock, address, PAGE_SIZE)
ask(calls.munlock, address, PAGE_SIZE)
"""


def test_the_limit_of_locked_memory_binds_those_without_privilege(run_child: RunChild) -> None:
    assert run_child(LIMITED).stdout.splitlines() == ["success", "ENOMEM", "ENOMEM", "EPERM", "success"]
