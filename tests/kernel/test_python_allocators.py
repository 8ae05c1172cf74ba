"""memprot.guard.enable("raw") and ("mem"): what Python allocates ends at guards, and Python is as it was."""

import array
import ctypes
import sysconfig
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Literal

import pytest

import memprot.guard
from memprot import PAGE_SIZE, FaultError, catch_faults

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
needs_mem = pytest.mark.skipif(FREE_THREADED, reason="this Python's objects stay with its own allocator")
Domain = Literal["raw", "mem"]
# As a user of C would call them: raw memory without the interpreter, other memory with it.
LIBRARIES: dict[Domain, ctypes.CDLL] = {"raw": ctypes.CDLL(None), "mem": ctypes.PyDLL(None)}
NAMES: dict[Domain, str] = {"raw": "PyMem_Raw", "mem": "PyMem_"}


class Functions:
    """The four functions of a domain."""

    def __init__(self, domain: Domain) -> None:
        library, name = LIBRARIES[domain], NAMES[domain]
        self.domain: Domain = domain
        self.malloc = self._function(library[f"{name}Malloc"], ctypes.c_size_t)
        self.calloc = self._function(library[f"{name}Calloc"], ctypes.c_size_t, ctypes.c_size_t)
        self.realloc = self._function(library[f"{name}Realloc"], ctypes.c_void_p, ctypes.c_size_t)
        self.free = self._function(library[f"{name}Free"], ctypes.c_void_p)

    @staticmethod
    def _function(function: Any, *arguments: Any) -> Any:
        function.argtypes, function.restype = arguments, ctypes.c_void_p
        return function


def counts(domain: Domain) -> dict[str, int]:
    return memprot.guard.report()[domain]


def offset_of_fault(misbehave: ModuleType, address: int) -> int | None:
    """Where the write that was blocked lies in its block; None when it was let through."""
    try:
        with catch_faults():
            misbehave.write(address, 1)
    except FaultError as fault:
        assert fault.cause == "guard"
        return fault.offset
    return None


@pytest.fixture(params=["raw", pytest.param("mem", marks=needs_mem)])
def functions(request: pytest.FixtureRequest) -> Iterator[Functions]:
    memprot.guard.enable(request.param)
    yield Functions(request.param)
    memprot.guard.disable(request.param)


@pytest.fixture
def mem() -> Iterator[None]:
    memprot.guard.enable("mem")
    yield
    memprot.guard.disable("mem")


@pytest.mark.parametrize("size", [16, 112, 496, 512, 528, PAGE_SIZE, 3 * PAGE_SIZE + 16, 1 << 20])
def test_a_block_ends_at_its_guard(misbehave: ModuleType, functions: Functions, size: int) -> None:
    for block in (functions.malloc(size), functions.calloc(1, size), functions.realloc(None, size)):
        assert block % 16 == 0
        ctypes.memset(block, 7, size)
        assert offset_of_fault(misbehave, block + size) == size
        assert ctypes.string_at(block, size) == b"\7" * size
        functions.free(block)


def test_alignment_leaves_the_bytes_up_to_the_guard_unless_it_is_given_up(
    misbehave: ModuleType, functions: Functions
) -> None:
    block = functions.malloc(13)
    assert offset_of_fault(misbehave, block + 16) == 16
    functions.free(block)
    memprot.guard.enable(functions.domain, align=1)
    block = functions.malloc(13)
    # Large objects come from raw memory, and Python counts on the addresses of objects.
    guard = 13 if functions.domain == "mem" else 16
    assert offset_of_fault(misbehave, block + guard) == guard
    functions.free(block)


def test_on_the_left_a_block_begins_at_its_guard(misbehave: ModuleType, functions: Functions) -> None:
    memprot.guard.enable(functions.domain, side="left")
    block = functions.malloc(100)
    assert offset_of_fault(misbehave, block - 1) == -1
    functions.free(block)


def test_a_block_of_no_bytes_is_one_of_its_own(functions: Functions) -> None:
    blocks = [functions.malloc(0), functions.calloc(0, 8), functions.realloc(None, 0)]
    assert len({*blocks, None}) == 4
    for block in blocks:
        functions.free(block)
    functions.free(None)


def test_memory_that_is_to_be_zero_is_zero_also_when_it_was_used_before(functions: Functions) -> None:
    for size in (24, 600, 5 * PAGE_SIZE, 1 << 20):
        block = functions.malloc(size)
        ctypes.memset(block, 255, size)
        functions.free(block)
        block = functions.calloc(size // 8, 8)
        assert not any(ctypes.string_at(block, size))
        functions.free(block)


def test_what_no_memory_can_hold_is_refused_as_ever(functions: Functions) -> None:
    assert functions.calloc(1 << 62, 8) is None
    assert functions.malloc(1 << 62) is None
    block = functions.malloc(64)
    ctypes.memset(block, 3, 64)
    assert functions.realloc(block, 1 << 62) is None
    assert ctypes.string_at(block, 64) == b"\3" * 64
    functions.free(block)


def test_a_block_that_grows_and_shrinks_keeps_its_bytes_and_its_guard(
    misbehave: ModuleType, functions: Functions
) -> None:
    block, before = functions.malloc(16), 16
    ctypes.memset(block, 5, 16)
    for size in (32, 528, 2 * PAGE_SIZE, 1 << 20, 4096, 48, 16):
        block = functions.realloc(block, size)
        kept = min(before, size)
        assert ctypes.string_at(block, kept) == b"\5" * kept
        ctypes.memset(block, 5, size)
        assert offset_of_fault(misbehave, block + size) == size
        before = size
    functions.free(block)


def test_blocks_from_before_and_blocks_from_then_live_on_whatever_is_enabled(functions: Functions) -> None:
    guarded = [functions.malloc(64) for _ in range(10)]
    memprot.guard.disable(functions.domain)
    before = counts(functions.domain)["blocks"]
    plain = [functions.malloc(64) for _ in range(10)]
    assert counts(functions.domain)["blocks"] == before
    for block in (*guarded, *plain):
        ctypes.memset(block, 9, 64)
    guarded[:5] = [functions.realloc(block, 2000) for block in guarded[:5]]
    memprot.guard.enable(functions.domain)
    plain[:5] = [functions.realloc(block, 2000) for block in plain[:5]]
    for block in (*guarded, *plain):
        assert ctypes.string_at(block, 64) == b"\11" * 64
        functions.free(block)


def test_one_of_so_many_is_guarded(functions: Functions) -> None:
    memprot.guard.enable(functions.domain, sample=50)
    before = counts(functions.domain)
    for _ in range(5000):
        functions.free(functions.malloc(64))
    after = counts(functions.domain)
    assert 10 < after["blocks"] - before["blocks"] < 1000
    assert after["sampled_out"] - before["sampled_out"] >= 4000


def test_what_is_allocated_is_counted(functions: Functions) -> None:
    before = counts(functions.domain)
    block = functions.malloc(5000)
    during = counts(functions.domain)
    functions.free(block)
    after = counts(functions.domain)
    assert during["blocks"] > before["blocks"]
    assert during["bytes"] - before["bytes"] >= 5000
    assert during["live_bytes"] - after["live_bytes"] >= 5000 - 4096


def test_threads_without_the_interpreter_share_raw_memory() -> None:
    memprot.guard.enable("raw")
    raw, wrong = Functions("raw"), []

    def work(byte: int) -> None:
        blocks = []
        for turn in range(300):
            size = 16 + turn * 37 % 3000
            block = raw.malloc(size)
            ctypes.memset(block, byte, size)
            blocks.append((block, size))
            if turn % 3 == 2:
                block, size = blocks.pop(turn % len(blocks))
                block = raw.realloc(block, size + 100)
                wrong.extend([byte] * (ctypes.string_at(block, size) != bytes([byte]) * size))
                raw.free(block)
        for block, size in blocks:
            wrong.extend([byte] * (ctypes.string_at(block, size) != bytes([byte]) * size))
            raw.free(block)

    threads = [threading.Thread(target=work, args=(byte,)) for byte in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memprot.guard.disable("raw")
    assert wrong == []


@pytest.mark.usefixtures("mem")
@needs_mem
def test_the_items_of_a_list_end_at_a_guard(misbehave: ModuleType) -> None:
    items = [None] * 10
    address = ctypes.c_void_p.from_address(id(items) + list.__basicsize__ - 16).value
    assert address is not None
    assert offset_of_fault(misbehave, address + 80) == 80
    assert items == [None] * 10


@pytest.mark.usefixtures("mem")
@needs_mem
def test_the_numbers_of_an_array_end_at_a_guard_as_far_as_it_was_allocated(misbehave: ModuleType) -> None:
    numbers = array.array("d", [1.0] * 10)
    address, length = numbers.buffer_info()
    assert offset_of_fault(misbehave, address + 8 * length) == 80
    numbers.append(2.0)  # allocates more than it needs, so as not to do so again soon
    address, length = numbers.buffer_info()
    assert offset_of_fault(misbehave, address + 8 * length) is None
    assert offset_of_fault(misbehave, address + 20 * 8) is not None
    assert list(numbers) == [1.0] * 10 + [2.0]


@pytest.mark.usefixtures("mem")
@needs_mem
def test_a_buffer_of_ctypes_ends_at_a_guard(misbehave: ModuleType) -> None:
    buffer = (ctypes.c_int * 24)()
    assert offset_of_fault(misbehave, ctypes.addressof(buffer) + 96) == 96


@pytest.mark.usefixtures("mem")
@needs_mem
def test_what_grows_item_by_item_keeps_every_item() -> None:
    items, numbers, data = [], array.array("i"), bytearray()
    for number in range(3000):
        items.append(number)
        numbers.append(number)
        data.append(number & 255)
    while len(items) > 10:
        del items[-len(items) // 3 :], numbers[-len(numbers) // 3 :], data[-len(data) // 3 :]
        assert items == list(numbers) == list(range(len(items)))
        assert data == bytes(number & 255 for number in items)


@pytest.mark.skipif(not FREE_THREADED, reason="this Python's objects can be guarded")
@pytest.mark.parametrize("target", ["mem", "obj"])
def test_a_python_without_the_global_lock_keeps_its_objects(target: Literal["mem", "obj"]) -> None:
    with pytest.raises(RuntimeError, match='only its raw memory can be guarded; guard "raw"'):
        memprot.guard.enable(target)
    memprot.guard.enable("raw")
    memprot.guard.disable("raw")
