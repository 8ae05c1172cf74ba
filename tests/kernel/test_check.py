"""memprot.check says what mprotect then does, and changes nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memprot import PAGE_SIZE, AddressSpace, Prot, ProtectionError, Reason, Region, Verdict, calls, check, features
from memprot.calls import MapFlag

COMPARE = Path(__file__).parent / "compare_check.py"
COUNT = 40_000 if os.environ.get("MEMPROT_FUZZ") else 3000
CONDITIONS = ["", "sealed", "mdwe", "personality", "mdwe personality", "data sealed", "pid", "pid personality sealed"]


@pytest.mark.parametrize("conditions", CONDITIONS)
def test_it_agrees_with_the_kernel_about_random_requests(conditions: str) -> None:
    missing = [name for name in ("mdwe", "mseal") if name[:4] in conditions and not features.available(name)]
    if missing or ("sealed" in conditions and not features.available("mseal")):
        pytest.skip("this kernel does not have it")
    command = [sys.executable, str(COMPARE), "7", str(COUNT), *conditions.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{COUNT} ")
    assert {"ok", "hole", "file_read_only"} <= set(done.stdout.split())


@pytest.fixture
def region() -> Iterator[Region]:
    with Region(4 * PAGE_SIZE) as made:
        yield made


@pytest.fixture
def lonely() -> Iterator[int]:
    """A page far from any other: what goes wrong beyond it hits nothing."""
    flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED_NOREPLACE
    address = calls.mmap(0x2200_0000_0000, PAGE_SIZE, 3, flags)
    yield address
    calls.munmap(address, PAGE_SIZE)


def test_a_verdict_is_true_or_false(region: Region) -> None:
    told = check(region.address, PAGE_SIZE, "r--")
    assert told
    assert told == Verdict(True, None, None, None, None, None, None)
    refused = check(0, PAGE_SIZE, "r--")
    assert not refused
    assert (refused.ok, refused.errno, refused.reason) == (False, 12, Reason.HOLE)
    assert (refused.start, refused.stop, refused.mapping) == (0, PAGE_SIZE, None)
    assert refused.hint is not None


def test_it_changes_nothing(region: Region) -> None:
    check(region.address, PAGE_SIZE, "rwx")  # what it keeps for the next time is there now
    before = list(AddressSpace()), sorted(os.listdir("/proc/self/fd"))
    for prot in range(8):
        assert check(region.address + PAGE_SIZE, PAGE_SIZE, prot)
    assert (list(AddressSpace()), sorted(os.listdir("/proc/self/fd"))) == before


@pytest.mark.parametrize("prot", [Prot.READ, "r--", 1])
def test_a_protection_is_a_prot_a_string_or_an_int(region: Region, prot: Prot | str | int) -> None:
    assert check(region.address, PAGE_SIZE, prot)


@pytest.mark.parametrize("value", [True, 1.0, None, "0", b"", [1]])
@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_what_is_no_int_is_a_type_error(region: Region, position: int, value: Any) -> None:
    if position == 3 and value is None:
        return
    arguments = [region.address, PAGE_SIZE, 1, os.getpid()]
    arguments[position] = value
    kind = ValueError if position == 2 and value == "0" else TypeError
    with pytest.raises(kind, match="protection" if position == 2 else r"check\(\) argument"):
        check(*arguments)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 1 << 1000])
@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_what_does_not_fit_64_bits_is_an_overflow(position: int, value: int) -> None:
    arguments = [PAGE_SIZE, PAGE_SIZE, 1, os.getpid()]
    arguments[position] = value
    with pytest.raises(OverflowError, match=r"check\(\) argument"):
        check(*arguments)


@pytest.mark.parametrize(
    ("offset", "length", "prot"),
    [
        (0, -1, 1),
        (0, 2**64 - 1, 1),
        (0, 2**63, 1),
        (0, 1 << 47, 1),
        (0, 0, 1 << 40),
        (1, 0, 1),
        (1, PAGE_SIZE, 1),
        (0, PAGE_SIZE, -1),
        (0, PAGE_SIZE, 2**64 - 1),
        (0, PAGE_SIZE, 1 << 32 | 5),
        (-(1 << 63), PAGE_SIZE, 1),
        (0, 0, 0x03000000),
    ],
)
def test_odd_numbers_get_the_kernels_answer(lonely: int, offset: int, length: int, prot: int) -> None:
    address = (lonely + offset) if offset >= 0 else offset
    told = check(address, length, prot)
    try:
        calls.mprotect(address, length, prot)
    except ProtectionError as error:
        assert (told.errno, told.reason, told.start, told.stop) == (error.errno, error.reason, error.start, error.stop)
    else:
        assert told


def test_special_mappings_are_answered_as_the_kernel_does() -> None:
    for mapping in AddressSpace():
        if mapping.kind not in ("vdso", "vvar", "vsyscall"):
            continue
        for prot in (Prot.READ | Prot.WRITE, Prot.EXEC | mapping.prot):
            told = check(mapping.start, PAGE_SIZE, prot)
            try:
                calls.mprotect(mapping.start, PAGE_SIZE, prot)
            except ProtectionError as error:
                assert (told.errno, told.reason) == (error.errno, error.reason), mapping
            else:
                assert told, mapping
                calls.mprotect(mapping.start, PAGE_SIZE, mapping.prot)


def test_a_child_of_a_fork_asks_about_itself(region: Region) -> None:
    assert check(region.address, PAGE_SIZE, "r--")
    child = os.fork()
    if child == 0:
        calls.munmap(region.address, PAGE_SIZE)
        os._exit(0 if check(region.address, PAGE_SIZE, "r--").reason is Reason.HOLE else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert check(region.address, PAGE_SIZE, "r--")


def test_it_answers_after_somebody_closed_and_reused_its_descriptor() -> None:
    program = (
        "import os\n"
        "from memprot import PAGE_SIZE, Region, check\n"
        "region = Region(PAGE_SIZE)\n"
        "assert check(region.address, PAGE_SIZE, 'r--')\n"
        "os.closerange(3, 100)\n"
        "files = [os.open('/dev/null', os.O_RDONLY) for _ in range(20)]\n"
        "assert check(region.address, PAGE_SIZE, 'r--')\n"
        "[os.close(file) for file in files]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_process_is_asked_about_by_its_number(region: Region) -> None:
    program = [sys.executable, "-c", "print('ready', flush=True); import time; time.sleep(60)"]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        space = AddressSpace(process.pid)
        mapping = next(mapping for mapping in space if mapping.prot == Prot("r-x"))
        assert check(mapping.start, PAGE_SIZE, "rwx", pid=process.pid)
        assert check(0, PAGE_SIZE, "r--", process.pid).reason is Reason.HOLE
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with pytest.raises(ProcessLookupError, match=str(process.pid)):
            check(mapping.start, PAGE_SIZE, "rwx", process.pid)
    with pytest.raises(ProcessLookupError):
        check(0, PAGE_SIZE, 1, pid=0)


def test_a_process_that_may_not_be_read_is_a_permission_error() -> None:
    if os.geteuid() != 0:
        with pytest.raises(PermissionError, match="process 1"):
            check(0, PAGE_SIZE, 1, pid=1)
        return
    program = (
        "import os, sys\n"
        "from memprot import PAGE_SIZE, check\n"
        "os.setgroups([])\n"
        "os.setresgid(65534, 65534, 65534)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "try:\n"
        "    check(0, PAGE_SIZE, 1, pid=1)\n"
        "except PermissionError as error:\n"
        "    print(error.strerror)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the mappings of process 1 may not be read" in done.stdout


def test_growing_down_begins_at_the_start_of_the_stack() -> None:
    flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.GROWSDOWN
    stack = calls.mmap(0, 2 * PAGE_SIZE, 3, flags)
    assert check(stack + PAGE_SIZE, PAGE_SIZE, "r--+growsdown")
    assert check(stack, PAGE_SIZE, "r--+growsup").reason is Reason.NOT_GROWING
    calls.munmap(stack, 2 * PAGE_SIZE)


def test_huge_pages_are_changed_whole() -> None:
    flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.HUGETLB | MapFlag.NORESERVE
    size = 1 << 30
    try:
        huge = calls.mmap(0, size, 3, flags)
    except ProtectionError as error:
        assert error.reason in (Reason.NOT_SUPPORTED, Reason.OUT_OF_MEMORY)
        return
    for start, length in ((0, PAGE_SIZE), (size // 2, PAGE_SIZE), (PAGE_SIZE, size - PAGE_SIZE), (0, size // 2)):
        told = check(huge + start, length, "r--")
        try:
            calls.mprotect(huge + start, length, Prot.READ)
        except ProtectionError as error:
            assert (told.errno, told.reason, told.start) == (error.errno, error.reason, error.start)
            assert error.reason is Reason.SPECIAL_MAPPING
        else:
            assert told
    calls.munmap(huge, size)
