"""Causes are found where descriptors, mappings and memory have run out, and nothing is claimed where they cannot be."""

import os
import subprocess
import sys

import pytest

FULL = """
from memprot import PAGE_SIZE, AddressSpace, ProtectionError, calls, check
from memprot.calls import MapFlag
from tests.kernel.provocations.case import fill_mappings, mapped

start = mapped(7) + PAGE_SIZE
for beside in (start - PAGE_SIZE, start + 5 * PAGE_SIZE):
    calls.mprotect(beside, PAGE_SIZE, 0)  # or the ballast may become one with it
fill_mappings(spare=0)
ballast = []
try:
    while True:
        ballast.append(bytearray(200_000))  # nothing is left that Python could take without a new mapping
except MemoryError:
    pass
told = check(start + PAGE_SIZE, PAGE_SIZE, 1)
try:
    calls.mprotect(start + PAGE_SIZE, PAGE_SIZE, 1)
except ProtectionError as error:
    found = error
ballast.clear()
assert (found.reason, found.mapping.start, found.mapping.stop) == ("mapping_limit", start, start + 5 * PAGE_SIZE)
assert (told.errno, told.reason, told.start) == (found.errno, found.reason, found.start)
assert AddressSpace().find(start) == found.mapping
print(found)
"""


# As above, with no descriptor left either.
FULL_AND_CLOSED = FULL.replace(
    "told = check", "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (0, 4096))\ntold = check"
)

# Nothing can be opened, and no process can be made that could.
CUT_OFF = """
import errno, os, resource
from memprot import PAGE_SIZE, ProtectionError, calls, mprotect
from tests.kernel.provocations.case import filter_call, with_hole

start = with_hole()
for number in {"x86_64": (56,), "aarch64": (220,)}[os.uname().machine]:
    filter_call(number, errno.EPERM)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
try:
    mprotect(start, 3 * PAGE_SIZE, 1)
except ProtectionError as error:
    print(error.errno == errno.ENOMEM, error.reason, error.applied, error.hint)
try:
    mprotect(start + 1, PAGE_SIZE, 1)
except ProtectionError as error:
    print(error.reason.value)
"""

# Where /proc shows nothing there is nothing to look at.
WITHOUT_PROC = """
import ctypes
from memprot import PAGE_SIZE, ProtectionError, check, mprotect
from tests.kernel.provocations.case import with_hole

start = with_hole()
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
assert libc.mount(None, b"/", None, 1 << 18 | 1 << 14, None) == 0  # MS_PRIVATE | MS_REC
assert libc.mount(b"none", b"/proc", b"tmpfs", 0, None) == 0
try:
    mprotect(start, 3 * PAGE_SIZE, 1)
except ProtectionError as error:
    print(error.errno, error.reason)
try:
    check(start, PAGE_SIZE, 1)
except FileNotFoundError as error:
    print(error.strerror)
"""


def output(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", [FULL, FULL_AND_CLOSED], ids=["mappings", "descriptors too"])
def test_the_limit_of_mappings_is_told_where_python_can_hardly_allocate(program: str) -> None:
    said = output(program)
    assert "vm.max_map_count is" in said
    assert "has to be split into 3" in said


def test_where_nothing_can_be_opened_the_error_claims_nothing_about_the_memory() -> None:
    assert output(CUT_OFF) == "True None () None\nmisaligned\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_without_proc_the_error_has_its_errno_and_check_says_what_is_missing() -> None:
    assert output(WITHOUT_PROC) == "12 None\nthere is no /proc/self/maps; is /proc mounted?\n"
