"""What the kernel does with protection keys, call by call (pkeys(7))."""

import ctypes
import errno
import signal
import threading
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from memprot import PAGE_SIZE, FaultError, ProtectionError, Reason, Region, calls
from memprot.flags import KeyRights

KeyOf = Callable[[int], int]
Tag = Callable[[Region, int], None]
RunChild = Callable[[str], CompletedProcess[str]]

LIBC = ctypes.PyDLL(None)  # keeps the interpreter's lock: a handler of a raised signal needs it
Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)


def refusal(call: Callable[..., object], *arguments: int) -> ProtectionError:
    with pytest.raises(ProtectionError) as refused:
        call(*arguments)
    return refused.value


def test_there_are_fifteen_keys_and_then_none() -> None:
    assert sorted(calls.pkey_alloc() for _ in range(15)) == list(range(1, 16))
    refused = refusal(calls.pkey_alloc)
    assert (refused.errno, refused.reason) == (errno.ENOSPC, Reason.NO_KEY_LEFT)


def test_a_freed_key_is_handed_out_again() -> None:
    keys = [calls.pkey_alloc() for _ in range(15)]
    calls.pkey_free(keys[6])
    assert calls.pkey_alloc() == keys[6]


@pytest.mark.parametrize("flags", [1, 1 << 31, 1 << 63])
def test_an_allocation_takes_no_flags(flags: int) -> None:
    assert refusal(calls.pkey_alloc, flags).errno == errno.EINVAL


@pytest.mark.parametrize("rights", [4, 8, 1 << 32])
def test_an_allocation_refuses_rights_that_this_processor_does_not_have(rights: int) -> None:
    assert refusal(calls.pkey_alloc, 0, rights).errno == errno.EINVAL


@pytest.mark.parametrize("rights", [KeyRights.UNRESTRICTED, KeyRights.DISABLE_ACCESS, KeyRights.DISABLE_WRITE])
def test_an_allocation_gives_its_thread_the_rights_it_names(rights: KeyRights) -> None:
    assert calls.pkey_get(calls.pkey_alloc(0, rights)) == rights


@pytest.mark.parametrize("number", [-1, 1, 15, 16, 1 << 31])
def test_a_key_that_is_not_allocated_cannot_be_freed(number: int) -> None:
    refused = refusal(calls.pkey_free, number)
    assert (refused.errno, refused.reason) == (errno.EINVAL, Reason.KEY_NOT_ALLOCATED)


def test_key_0_cannot_be_allocated_but_can_be_freed_and_still_used(region: Region) -> None:
    """It is only taken from the list of keys: memory that has it is as before."""
    calls.pkey_free(0)
    try:
        assert region[0] == 1
        assert refusal(calls.pkey_mprotect, region.address, PAGE_SIZE, 3, 0).errno == errno.EINVAL
    finally:
        assert calls.pkey_alloc() == 0


def test_memory_is_given_a_key_with_its_protection(region: Region, key: int, key_of: KeyOf) -> None:
    calls.pkey_mprotect(region.address + PAGE_SIZE, PAGE_SIZE, 1, key)
    assert [key_of(region.address + page * PAGE_SIZE) for page in range(3)] == [0, key, 0]
    assert str(region.mappings[1].prot) == "r--"


@pytest.mark.parametrize("number", [2, 15, 16, -2, 1 << 31])
def test_memory_is_not_given_a_key_that_is_not_allocated(region: Region, key: int, number: int, key_of: KeyOf) -> None:
    refused = refusal(calls.pkey_mprotect, region.address, PAGE_SIZE, 1, number)
    assert (refused.errno, refused.reason) == (errno.EINVAL, Reason.KEY_NOT_ALLOCATED)
    assert refused.applied == ()
    assert key_of(region.address) == 0
    assert str(region.mappings[0].prot) == "rw-"


def test_key_minus_1_is_plain_mprotect(region: Region, key: int, tag: Tag, key_of: KeyOf) -> None:
    tag(region, key)
    calls.pkey_mprotect(region.address, PAGE_SIZE, 1, -1)
    assert key_of(region.address) == key
    assert str(region.mappings[0].prot) == "r--"


def test_mprotect_leaves_the_key(region: Region, key: int, tag: Tag, key_of: KeyOf) -> None:
    tag(region, key)
    calls.mprotect(region.address, region.size, 0)
    calls.mprotect(region.address, region.size, 3)
    assert key_of(region.address) == key


def test_a_freed_key_stays_on_memory_with_the_rights_it_had(region: Region, key: int, tag: Tag, key_of: KeyOf) -> None:
    tag(region, key)
    calls.pkey_set(key, KeyRights.DISABLE_ACCESS)
    calls.pkey_free(key)
    assert key_of(region.address) == key
    assert calls.pkey_get(key) == KeyRights.DISABLE_ACCESS
    with pytest.raises(FaultError) as fault:
        region[0]
    assert fault.value.key == key
    # Whoever is handed that number next gets the memory along with it.
    assert calls.pkey_alloc() == key
    assert region[0] == 1


EXECUTE_ONLY = """
from memprot import FaultError, PAGE_SIZE, ProtectionError, Region, calls

def refused(call, *arguments):
    try:
        call(*arguments)
    except ProtectionError as error:
        return error.errno

region = Region(PAGE_SIZE)
region.protect("--x")
try:
    region[0]
except FaultError as fault:
    print(fault.cause, fault.key)
    hidden = fault.key
print(refused(calls.pkey_free, hidden), refused(calls.pkey_mprotect, region.address, PAGE_SIZE, 4, hidden))
region.protect("r-x")
print(region[0])
keys = 0
while refused(calls.pkey_alloc) is None:
    keys += 1
print(keys)
"""


def test_memory_that_may_only_be_executed_has_a_key_that_is_the_kernels_alone(run_child: RunChild) -> None:
    """It takes one of the fifteen for good, and may neither be freed nor given to memory."""
    done = run_child(EXECUTE_ONLY)
    assert done.stderr == ""
    assert done.stdout.split("\n") == ["key 1", f"{errno.EINVAL} {errno.EINVAL}", "0", "14", ""]


def test_a_program_begins_with_rights_to_key_0_only(run_child: RunChild) -> None:
    done = run_child("from memprot import calls; print(*[int(calls.pkey_get(key)) for key in range(16)])")
    assert done.stdout.split() == ["0", *["1"] * 15]


def test_each_thread_has_its_own_rights_and_begins_with_those_of_its_creator(key: int) -> None:
    seen: list[KeyRights] = []

    def look_and_change() -> None:
        seen.append(calls.pkey_get(key))
        calls.pkey_set(key, KeyRights.UNRESTRICTED)
        seen.append(calls.pkey_get(key))

    calls.pkey_set(key, KeyRights.DISABLE_WRITE)
    thread = threading.Thread(target=look_and_change)
    thread.start()
    thread.join()
    assert seen == [KeyRights.DISABLE_WRITE, KeyRights.UNRESTRICTED]
    assert calls.pkey_get(key) == KeyRights.DISABLE_WRITE


def test_a_key_allocated_later_is_closed_to_threads_that_run_already() -> None:
    seen: list[KeyRights] = []
    keys: list[int] = []
    allocated = threading.Event()

    def look() -> None:
        assert allocated.wait(60)
        seen.append(calls.pkey_get(keys[0]))

    thread = threading.Thread(target=look)
    thread.start()
    keys.append(calls.pkey_alloc())
    allocated.set()
    thread.join()
    assert calls.pkey_get(keys[0]) == KeyRights.UNRESTRICTED
    assert seen == [KeyRights.DISABLE_ACCESS]


def test_a_signal_handler_has_rights_to_key_0_only_and_its_changes_end_with_it(key: int) -> None:
    seen: list[KeyRights] = []

    def handle(number: int) -> None:
        seen.append(calls.pkey_get(key))
        calls.pkey_set(key, KeyRights.DISABLE_WRITE)
        seen.append(calls.pkey_get(key))
        seen.append(calls.pkey_get(0))

    handler = Handler(handle)
    LIBC.signal.restype = ctypes.c_void_p
    before = LIBC.signal(int(signal.SIGUSR1), handler)
    try:
        assert LIBC["raise"](int(signal.SIGUSR1)) == 0
    finally:
        LIBC.signal(int(signal.SIGUSR1), ctypes.c_void_p(before))
    assert seen == [KeyRights.DISABLE_ACCESS, KeyRights.DISABLE_WRITE, KeyRights.UNRESTRICTED]
    assert calls.pkey_get(key) == KeyRights.UNRESTRICTED
