"""What a tracing tool's page of its mprotect event says, against the running kernel."""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memprot import PAGE_SIZE, AddressSpace, Prot, calls, features
from memprot.flags import MapFlag

if TYPE_CHECKING:
    from tests.kernel.documents.conftest import MapFile, Pages, Refusal


def test_a_hole_ends_the_call_with_enomem_after_what_lies_before_it_has_changed(
    pages: "Pages", refusal: "Refusal"
) -> None:
    calls.munmap(pages.page(2), PAGE_SIZE)
    assert refusal(calls.mprotect, pages.address, pages.size, Prot.READ) == errno.ENOMEM
    assert pages.prots == ["r--", "r--", "", "rw-"]


def test_locked_pages_change_as_others_do(pages: "Pages") -> None:
    calls.mlock(pages.address, PAGE_SIZE)
    calls.mprotect(pages.address, 2 * PAGE_SIZE, Prot.READ)
    assert pages.prots == ["r--", "r--", "rw-", "rw-"]


SEALED = """
import errno
from memprot import PAGE_SIZE, AddressSpace, Prot, ProtectionError, calls
from memprot.flags import MapFlag
page = calls.mmap(0, PAGE_SIZE, Prot.READ, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
try:
    calls.mseal(page, PAGE_SIZE)
except ProtectionError:
    print("no mseal")
try:
    calls.mprotect(page, PAGE_SIZE, Prot.READ | Prot.WRITE)
except ProtectionError as error:
    print(errno.errorcode[error.errno])
print(AddressSpace().find(page).prot)
"""


def test_only_a_seal_makes_memory_refuse() -> None:
    # In a process of its own: nothing takes a seal away.
    done = subprocess.run([sys.executable, "-c", SEALED], capture_output=True, text=True, timeout=60, check=True)
    if features.available("mseal"):
        assert done.stdout.split() == ["EPERM", "r--"]
    else:
        assert done.stdout.splitlines() == ["no mseal", "rw-"]


def test_a_read_only_page_can_be_made_writable(pages: "Pages") -> None:
    calls.mprotect(pages.address, PAGE_SIZE, Prot.READ)
    calls.mprotect(pages.address, PAGE_SIZE, Prot.READ | Prot.WRITE)
    ctypes.memset(pages.address, 1, 1)
    assert pages.prots[0] == "rw-"


def test_a_shared_mapping_of_a_file_opened_for_reading_stays_read_only(
    page_file: Path, map_file: "MapFile", refusal: "Refusal"
) -> None:
    address = map_file(page_file, os.O_RDONLY, MapFlag.SHARED)
    assert refusal(calls.mprotect, address, PAGE_SIZE, Prot.READ | Prot.WRITE) == errno.EACCES
    address = map_file(page_file, os.O_RDWR, MapFlag.SHARED)
    assert refusal(calls.mprotect, address, PAGE_SIZE, Prot.READ | Prot.WRITE) is None


def test_no_access_at_all_and_execution_alone_are_protections(pages: "Pages") -> None:
    calls.mprotect(pages.page(0), PAGE_SIZE, Prot.NONE)
    calls.mprotect(pages.page(1), PAGE_SIZE, Prot.EXEC)
    assert pages.prots == ["---", "--x", "rw-", "rw-"]


def test_each_call_replaces_the_protection_and_adds_nothing_to_it(pages: "Pages") -> None:
    calls.mprotect(pages.address, PAGE_SIZE, Prot.READ)
    calls.mprotect(pages.address, PAGE_SIZE, Prot.EXEC)
    assert pages.prots[0] == "--x"


def test_growsdown_changes_pages_below_the_address(refusal: "Refusal") -> None:
    flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.GROWSDOWN
    stack = calls.mmap(0, 3 * PAGE_SIZE, Prot.READ | Prot.WRITE, flags)
    calls.mprotect(stack + 2 * PAGE_SIZE, PAGE_SIZE, Prot.READ | Prot.GROWSDOWN)
    found = [AddressSpace().find(stack + number * PAGE_SIZE) for number in range(3)]
    assert [str(mapping.prot) for mapping in found if mapping is not None] == ["r--"] * 3
    calls.munmap(stack, 3 * PAGE_SIZE)


def test_unknown_bits_are_einval_even_the_upper_half_of_the_register(pages: "Pages", refusal: "Refusal") -> None:
    assert refusal(calls.mprotect, pages.address, PAGE_SIZE, 1 << 20) == errno.EINVAL
    protection = 1 << 32 | int(Prot.READ | Prot.EXEC)
    assert refusal(calls.mprotect, pages.address, PAGE_SIZE, protection) == errno.EINVAL
    assert refusal(calls.mprotect, pages.address, PAGE_SIZE, protection & 0xFFFFFFFF) is None


def test_memory_is_neither_made_nor_given_back(pages: "Pages", refusal: "Refusal") -> None:
    ctypes.memset(pages.address, 7, pages.size)
    calls.mprotect(pages.address, pages.size, Prot.NONE)
    calls.mprotect(pages.address, pages.size, Prot.READ)
    assert ctypes.string_at(pages.address, pages.size) == b"\x07" * pages.size
    calls.munmap(pages.page(3), PAGE_SIZE)
    assert refusal(calls.mprotect, pages.page(3), PAGE_SIZE, Prot.READ | Prot.WRITE) == errno.ENOMEM
    assert pages.prots == ["r--", "r--", "r--", ""]


DENIED = """
import ctypes, errno
from memprot import PAGE_SIZE, AddressSpace, Prot, ProtectionError, calls
from memprot.flags import MapFlag
page = calls.mmap(0, PAGE_SIZE, Prot.READ, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    print("no MDWE")
try:
    calls.mprotect(page, PAGE_SIZE, Prot.READ | Prot.EXEC)
except ProtectionError as error:
    print(errno.errorcode[error.errno])
print(AddressSpace().find(page).prot)
"""


def test_execution_is_checked_where_the_process_denies_itself_to_gain_it() -> None:
    done = subprocess.run([sys.executable, "-c", DENIED], capture_output=True, text=True, timeout=60, check=True)
    if features.available("mdwe"):
        assert done.stdout.split() == ["EACCES", "r--"]
    else:
        assert done.stdout.splitlines() == ["no MDWE", "r-x"]


NOEXEC = """
import errno, os, sys
from memprot import PAGE_SIZE, Prot, ProtectionError, calls
from memprot.flags import MapFlag
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(descriptor, PAGE_SIZE)
page = calls.mmap(0, PAGE_SIZE, Prot.READ, MapFlag.PRIVATE, descriptor)
try:
    calls.mprotect(page, PAGE_SIZE, Prot.READ | Prot.EXEC)
except ProtectionError as error:
    print(errno.errorcode[error.errno])
"""


def test_execution_is_checked_against_the_mount(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(NOEXEC)
    mount = tmp_path / "mount"
    mount.mkdir()
    shell = 'mount -t tmpfs -o noexec none "$1" || exit 77; exec "$2" "$3" "$1/file"'
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare to mount something in private with")
    privilege = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", "--mount", *privilege, "sh", "-c", shell, "sh", str(mount), sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0 and ("unshare" in done.stderr or done.returncode == 77):
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout) == (0, "EACCES\n")


def test_protection_changes_without_a_call_of_mprotect_too(pages: "Pages") -> None:
    calls.pkey_mprotect(pages.page(0), PAGE_SIZE, Prot.READ, -1)
    fixed = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED
    calls.mmap(pages.page(1), PAGE_SIZE, Prot.READ | Prot.EXEC, fixed)
    assert pages.prots == ["r--", "r-x", "rw-", "rw-"]


def test_alignment_length_zero_rounding_and_wrapping_are_rules_of_their_own(pages: "Pages", refusal: "Refusal") -> None:
    assert refusal(calls.mprotect, pages.address + 1, PAGE_SIZE, Prot.READ) == errno.EINVAL
    assert refusal(calls.mprotect, pages.address, 0, Prot.READ) is None
    assert pages.prots == ["rw-"] * 4
    assert refusal(calls.mprotect, pages.address, PAGE_SIZE + 1, Prot.READ) is None
    assert pages.prots == ["r--", "r--", "rw-", "rw-"]
    assert refusal(calls.mprotect, pages.address, 2**64 - PAGE_SIZE, Prot.READ) == errno.ENOMEM
