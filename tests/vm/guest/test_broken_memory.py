"""Memory the hardware has lost, as the kernel pretends at madvise(MADV_HWPOISON): an exception where it is data."""

import ctypes
import mmap
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memprot import PAGE_SIZE, AddressSpace, FaultError, ProtectionError, Region, calls, catch_faults, protected
from memprot._native import buffer_range
from memprot.faults.engine import reinstall

RunChild = Callable[[str], subprocess.CompletedProcess[str]]

HWPOISON = 100


def break_page(address: int) -> None:
    """The kernel tells of it at once, as if the call had touched the page: that word goes to a handler of Python's."""
    signal.signal(signal.SIGBUS, lambda *_: None)
    try:
        calls.madvise(address, PAGE_SIZE, HWPOISON)
    except ProtectionError as error:
        pytest.skip(f"this kernel breaks no memory on request: {error}")
    finally:
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        reinstall()


@pytest.fixture(params=[False, True], ids=["private", "shared"])
def broken(request: pytest.FixtureRequest) -> Iterator[Region]:
    """A Region of four pages, of which the second is broken."""
    with Region(4 * PAGE_SIZE, shared=request.param) as region:
        region[:] = b"abcd" * PAGE_SIZE
        break_page(region.address + PAGE_SIZE)
        yield region


def fault_of(act: Callable[[], object]) -> FaultError:
    with pytest.raises(FaultError) as caught, catch_faults():
        act()
    return caught.value


def test_foreign_code_that_reads_or_writes_it_raises_each_time(broken: Region) -> None:
    before = broken.mappings
    address = broken.address + PAGE_SIZE
    for act, access in (
        (lambda: ctypes.string_at(address + 5, 1), "read"),
        (lambda: ctypes.memset(address, 1, PAGE_SIZE), "write"),
        (lambda: ctypes.string_at(broken.address, 4 * PAGE_SIZE), "read"),
    ):
        fault = fault_of(act)
        assert (fault.cause, fault.access, fault.region, fault.others) == ("bus", access, broken, ())
        assert fault.record is not None
        assert fault.record.file is not None
        assert fault.record.file.loss == "broken"
        assert ": the hardware has lost byte " in str(fault)
        assert [(mapping.start, mapping.stop) for mapping in broken.mappings] == [
            (mapping.start, mapping.stop) for mapping in before
        ]
    assert broken[:PAGE_SIZE] == b"abcd" * (PAGE_SIZE // 4)
    assert broken[2 * PAGE_SIZE :] == b"abcd" * (PAGE_SIZE // 2)


def test_the_accessors_of_a_region_raise(broken: Region) -> None:
    for act in (lambda: broken[PAGE_SIZE], lambda: broken[:], lambda: broken.__setitem__(PAGE_SIZE + 7, 1)):
        with pytest.raises(FaultError) as caught:
            act()
        assert caught.value.cause == "bus"


def test_the_file_of_another_library_raises_in_a_scope(tmp_path: Path) -> None:
    with open("/dev/shm/memprot-broken", "w+b") as file:
        file.truncate(2 * PAGE_SIZE)
        with mmap.mmap(file.fileno(), 0) as memory:
            memory[:] = b"x" * (2 * PAGE_SIZE)
            start = buffer_range(memory)[0]
            before = AddressSpace().find(start)
            break_page(start)
            fault = fault_of(lambda: memory[5])
            assert (fault.cause, fault.file) == ("bus", "/dev/shm/memprot-broken")
            assert memory[PAGE_SIZE:] == b"x" * PAGE_SIZE
            assert AddressSpace().find(start) == before
    Path("/dev/shm/memprot-broken").unlink()


def test_memory_that_was_given_to_protect_raises() -> None:
    memory = mmap.mmap(-1, 2 * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = b"y" * (2 * PAGE_SIZE)
    start = buffer_range(memory)[0]
    with protected(memory, "r--"):
        break_page(start)
        assert fault_of(lambda: memory[0]).cause == "bus"
        assert fault_of(lambda: memory.__setitem__(1, 1)).access == "write"
        assert memory[PAGE_SIZE] == ord("y")


def test_memory_of_others_dies_of_it(run_child: RunChild) -> None:
    """It may hold objects."""
    child = run_child(f"""
import ctypes, mmap, signal
from memprot import PAGE_SIZE, Region, calls, catch_faults
signal.signal(signal.SIGBUS, lambda *_: None)
memory = mmap.mmap(-1, PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[0] = 1
calls.madvise(ctypes.addressof(ctypes.c_char.from_buffer(memory)), PAGE_SIZE, {HWPOISON})
signal.signal(signal.SIGBUS, signal.SIG_DFL)
print("broken", flush=True)
with catch_faults():
    memory[0]
""")
    assert (child.returncode, child.stdout) == (-signal.SIGBUS, "broken\n"), child.stderr


def test_the_early_word_of_it_goes_to_the_handler_that_was_there_before(run_child: RunChild) -> None:
    """It comes at any moment, to whoever asked for it; no instruction is to blame."""
    child = run_child(f"""
import ctypes, os, signal, time
from memprot import PAGE_SIZE, Region, calls, catch_faults
signal.signal(signal.SIGBUS, lambda *_: print("told"))
ctypes.CDLL(None).prctl(33, 1, 1, 0, 0)  # PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY
region = Region(PAGE_SIZE, shared=True)
region[0] = 1
with catch_faults() as scope:
    child = os.fork()
    if child == 0:
        calls.madvise(region.address, PAGE_SIZE, {HWPOISON})
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(0.1)
print(scope.faults)
""")
    assert (child.returncode, child.stdout.split()[-2:]) == (0, ["told", "()"]), child.stderr
