"""Blocked accesses to memory that memprot did not allocate: raised, where they happened, and taken back."""

import ctypes
import threading
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from pages import PAGES, SIZE, address_of, another_process_sees, protections

from memprot import PAGE_SIZE, AddressSpace, FaultError, catch_faults, protected

pytest.importorskip("numpy")
from foreign import KINDS, SHARED

if TYPE_CHECKING:
    import subprocess

RunChild = Callable[..., "subprocess.CompletedProcess[str]"]
PATTERN = (bytes(range(1, 252)) * (SIZE // 251 + 1))[:SIZE]
Touch = Callable[[ModuleType, int, bool], object]

# What is done, and the offset of the first byte that it would change.
WRITES: dict[str, tuple[Touch, int]] = {
    "one byte": (lambda c, start, gil: c.write(start + 5000, 0, gil=gil), 5000),
    "eight bytes across a border": (lambda c, start, gil: c.write64(start + PAGE_SIZE - 4, 0, gil=gil), PAGE_SIZE - 4),
    "everything": (lambda c, start, gil: c.set(start, 0, SIZE, gil=gil), 0),
    "everything by one instruction": (lambda c, start, gil: c.stosb(start, 0, SIZE, gil=gil), 0),
    "a copy forwards": (lambda c, start, gil: c.move_forwards(start + 9, start, 9000, gil=gil), 9),
    "a copy backwards": (lambda c, start, gil: c.move_backwards(start + 9, start, 9000, gil=gil), 9 + 9000 - 1),
    "a few pages": (lambda c, start, gil: c.set(start + 4000, 0, 9000, gil=gil), 4000),
}


@pytest.fixture(params=KINDS)
def memory(request: pytest.FixtureRequest) -> Any:
    made = KINDS[request.param]()
    ctypes.memmove(address_of(made), PATTERN, SIZE)
    return made


def content(memory: Any) -> bytes:
    return ctypes.string_at(address_of(memory), SIZE)


def mappings(start: int) -> int:
    return sum(mapping.start < start + SIZE and mapping.stop > start for mapping in AddressSpace())


def in_a_thread(do: Callable[[], object]) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except FaultError as fault:
            raised.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
def test_a_blocked_write_is_raised_and_leaves_nothing(
    memory: Any, misbehave: ModuleType, gil: bool, thread: bool
) -> None:
    start = address_of(memory)
    for name, (touch, offset) in WRITES.items():
        for prot in ("r--", "---", "r-x"):
            if "copy" in name and prot == "---":
                continue  # it would read first
            with protected(memory, prot):
                before = mappings(start)

                def blocked(touch: Touch = touch) -> None:
                    with catch_faults():
                        touch(misbehave, start, gil)

                with pytest.raises(FaultError) as caught:
                    in_a_thread(blocked) if thread else blocked()
                fault = caught.value
                assert (fault.access, fault.cause, fault.address, fault.offset) == (
                    "write",
                    "protection",
                    start + offset,
                    offset,
                ), name
                assert mappings(start) <= before
                assert protections(memory) == [prot] * PAGES
            assert content(memory) == PATTERN, name


@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
def test_a_blocked_read_gives_zeros_and_is_raised(memory: Any, misbehave: ModuleType, gil: bool) -> None:
    start = address_of(memory)
    into = ctypes.create_string_buffer(9000)
    for copy in (misbehave.move_forwards, misbehave.move_backwards, misbehave.movsb):
        ctypes.memset(into, 5, 9000)
        with protected(memory, "---"):
            with pytest.raises(FaultError) as caught, catch_faults():
                copy(ctypes.addressof(into), start + 9, 9000, gil=gil)
            assert caught.value.access == "read"
            assert caught.value.offset == (9 + 9000 - 1 if copy is misbehave.move_backwards else 9)
            assert protections(memory) == ["---"] * PAGES
        assert into.raw == bytes(9000)
        assert content(memory) == PATTERN


def test_a_thread_without_python_is_heard_where_the_scope_ends(memory: Any, misbehave: ModuleType) -> None:
    start = address_of(memory)
    with protected(memory, "r--"):
        with pytest.raises(FaultError) as caught, catch_faults():
            misbehave.write_from_c_thread(start + 77, 0)
        assert caught.value.offset == 77
    assert content(memory) == PATTERN


def test_what_was_blocked_is_written_once_it_is_permitted(memory: Any, misbehave: ModuleType) -> None:
    start = address_of(memory)
    for prot in ("r--", "---"):
        with protected(memory, prot), pytest.raises(FaultError), catch_faults():
            misbehave.set(start, 0, SIZE)
        with catch_faults():
            misbehave.set(start, 0, SIZE)
        assert not any(content(memory))


POLICIES: dict[str, tuple[Any, bool]] = {
    # the policy, and whether what was written stays
    "log": ("log", True),
    "discard": ("discard", False),
    "a callable that keeps": (lambda fault: "log", True),
    "a callable that discards": (lambda fault: "discard", False),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_says_whether_what_was_written_stays(memory: Any, misbehave: ModuleType, name: str) -> None:
    start = address_of(memory)
    policy, stays = POLICIES[name]
    for prot in ("r--", "---"):
        ctypes.memmove(start, PATTERN, SIZE)
        with protected(memory, prot):
            with catch_faults(policy=policy):
                misbehave.set(start + 4000, 0, 9000)
            assert protections(memory) == [prot] * PAGES
        written = PATTERN[:4000] + bytes(9000) + PATTERN[13000:]
        assert content(memory) == (written if stays else PATTERN)


@pytest.mark.parametrize("memory", SHARED, indirect=True)
def test_another_process_never_sees_a_blocked_write(memory: Any, misbehave: ModuleType) -> None:
    start = address_of(memory)
    mapping = AddressSpace().find(start)
    assert mapping is not None
    assert mapping.shared
    with another_process_sees(lambda: content(memory), PATTERN):
        for _ in range(100):
            with protected(memory, "r--"), pytest.raises(FaultError), catch_faults():
                misbehave.set(start, 0, SIZE)


SCATTERED = """
import ctypes, mmap
from memprot import *
from memprot._native import buffer_range

def mappings():
    return len(list(AddressSpace()))

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))

pages = 10_000
memory = mmap.mmap(-1, pages * PAGE_SIZE, flags={flags})
memory[:] = bytes([7]) * len(memory)
start = buffer_range(memory)[0]
protect(memory, "r--")
for page in (0, pages - 1):  # what is made when it is first needed
    try:
        with catch_faults():
            ctypes.memset(start + page * PAGE_SIZE, 1, 1)
    except FaultError:
        pass
before, held = mappings(), anonymous()
caught = 0
for page in range(1, pages, 2):
    try:
        with catch_faults():
            ctypes.memset(start + page * PAGE_SIZE, 1, 1)
    except FaultError:
        caught += 1
print(caught, mappings() - before < 100, anonymous() - held < pages * PAGE_SIZE // 10)
print(set(memory[:]))
"""


@pytest.mark.parametrize("flags", ["mmap.MAP_SHARED", "mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS"])
def test_thousands_of_faults_here_and_there_leave_no_mappings_and_no_copies(run_child: RunChild, flags: str) -> None:
    flags = flags if "ANON" in flags else f"{flags} | mmap.MAP_ANONYMOUS"
    done = run_child(SCATTERED.format(flags=flags))
    assert (done.stdout, done.stderr) == ("5000 True True\n{7}\n", "")


REPORTED: dict[str, str] = {
    "beside a small array": """
arrays = [numpy.zeros(3 * PAGE_SIZE, "u1") for _ in range(4)]
array = next(array for array in arrays if array.ctypes.data % PAGE_SIZE)
first = array[: -array.ctypes.data % PAGE_SIZE]
with protected(first, "r--", neighbours=True), catch_faults():
    ctypes.memset(first.ctypes.data, 1, 1)
""",
    "an array of objects": """
array = numpy.zeros(1 << 20, "O")
with protected(array, "r--", neighbours=True), catch_faults():
    array[1 << 19] = None
""",
    "a field beside objects": """
array = numpy.zeros(1 << 20, [("number", "f8"), ("name", "O")])
with protected(array["number"], "r--", neighbours=True), catch_faults():
    array["number"][1 << 19] = 1
""",
    "the objects of a ctypes structure": """
class Entry(ctypes.Structure):
    _fields_ = [("number", ctypes.c_long), ("name", ctypes.py_object)]
entries = (Entry * 1024).from_buffer(mmap.mmap(-1, 16384))
with protected(entries, "r--"), catch_faults():
    ctypes.memset(ctypes.addressof(entries) + 5000, 1, 1)
""",
    "the head of a bytes object": """
data = bytes(8 * PAGE_SIZE)
with protected(data, "r--", neighbours=True), catch_faults():
    ctypes.memset(id(data) + 32, 1, 1)
""",
}


@pytest.mark.parametrize("name", REPORTED)
def test_memory_that_may_hold_objects_is_reported_and_never_taken_back(run_child: RunChild, name: str) -> None:
    done = run_child(f"import ctypes, mmap, numpy\nfrom memprot import *\n{REPORTED[name]}\nprint('alive')")
    assert (done.returncode, done.stdout) == (-11, ""), done.stderr
    assert "write" in done.stderr
