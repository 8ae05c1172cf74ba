"""What a newer kernel than many hosts have does with sealed memory, and with a process that denied itself code."""

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from memprot import features

RunChild = Callable[[str], CompletedProcess[str]]

SEAL = """
from memprot import PAGE_SIZE, ProtectionError, Region, calls
region = Region(3 * PAGE_SIZE)
calls.mseal(region.address + PAGE_SIZE, PAGE_SIZE)
key = calls.pkey_alloc()
def attempt(name, *arguments):
    try:
        getattr(calls, name)(*arguments)
    except ProtectionError as error:
        print(name, error.errno, error.reason.value, error.start == region.address + PAGE_SIZE)
    else:
        print(name)
attempt("mprotect", region.address + PAGE_SIZE, PAGE_SIZE, 1)
attempt("pkey_mprotect", region.address + PAGE_SIZE, PAGE_SIZE, 3, key)
attempt("munmap", region.address + PAGE_SIZE, PAGE_SIZE)
attempt("mprotect", region.address, PAGE_SIZE, 1)
import os, sys
sys.stdout.flush()
os._exit(0)  # closing the region would say that it stays
"""

DENY = """
from memprot import PAGE_SIZE, ProtectionError, Region, calls
key = calls.pkey_alloc()
region = Region(PAGE_SIZE)
calls.set_mdwe(1)
for name, arguments in (("mprotect", (5,)), ("pkey_mprotect", (5, key)), ("pkey_mprotect", (1, key))):
    try:
        getattr(calls, name)(region.address, PAGE_SIZE, *arguments)
    except ProtectionError as error:
        print(name, error.errno, error.reason.value)
    else:
        print(name)
print(int(calls.get_mdwe()))
"""


def test_sealed_memory_takes_no_protection_and_no_key(run_child: RunChild) -> None:
    if not features.available("mseal"):
        pytest.skip("this kernel cannot seal memory")
    done = run_child(SEAL)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "mprotect 1 sealed True",
        "pkey_mprotect 1 sealed True",
        "munmap 1 sealed True",
        "mprotect",
    ]


def test_a_process_that_denied_itself_code_gets_none_by_a_key_either(run_child: RunChild) -> None:
    if not features.available("mdwe"):
        pytest.skip("this kernel has no PR_SET_MDWE")
    done = run_child(DENY)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "mprotect 13 deny_write_execute",
        "pkey_mprotect 13 deny_write_execute",
        "pkey_mprotect",
        "1",
    ]
