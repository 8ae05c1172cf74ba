"""Which Python lines a fault names as those that allocated: also of who did not hold the interpreter, or is gone."""

import ctypes
import gc
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest

import memprot.guard
from memprot import FaultError, catch_faults

SIZE = 48
ALLOCATE = """
def allocate(malloc):
    return malloc(48)
"""


@pytest.fixture
def raw() -> Iterator[ctypes.CDLL]:
    """Python's raw memory: ctypes releases the interpreter while it is allocated."""
    memprot.guard.enable("raw")
    library = ctypes.CDLL(None)
    library.PyMem_RawMalloc.restype = ctypes.c_void_p
    library.PyMem_RawFree.argtypes = [ctypes.c_void_p]
    yield library
    memprot.guard.disable("raw")


def lines(misbehave: ModuleType, block: int) -> list[tuple[str, str]]:
    """The lines that a fault right behind the block names, innermost first."""
    with pytest.raises(FaultError) as caught, catch_faults():
        misbehave.write(block + SIZE, 1)
    record = caught.value.record
    assert record is not None
    assert record.block is not None
    return [(frame.file, frame.function) for frame in record.block.allocated]


def test_memory_that_is_allocated_without_the_interpreter_has_its_line(raw: ctypes.CDLL, misbehave: ModuleType) -> None:
    block = raw.PyMem_RawMalloc(SIZE)
    name = test_memory_that_is_allocated_without_the_interpreter_has_its_line.__name__
    assert lines(misbehave, block)[0] == (__file__, name)
    raw.PyMem_RawFree(block)


def test_each_of_many_threads_has_its_own_lines(raw: ctypes.CDLL, misbehave: ModuleType) -> None:
    blocks: dict[str, int] = {}
    together = threading.Barrier(8)

    def work(name: str) -> None:
        functions: dict[str, object] = {}
        exec(compile(ALLOCATE.replace("allocate", name), f"{name}.py", "exec"), functions)
        together.wait()
        for _ in range(100):
            raw.PyMem_RawFree(functions[name](raw.PyMem_RawMalloc))  # type: ignore[operator]
        blocks[name] = functions[name](raw.PyMem_RawMalloc)  # type: ignore[operator]

    threads = [threading.Thread(target=work, args=(f"thread_{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, block in blocks.items():
        assert lines(misbehave, block)[0] == (f"{name}.py", name)
        raw.PyMem_RawFree(block)


def test_the_line_is_named_when_its_code_is_gone(raw: ctypes.CDLL, misbehave: ModuleType) -> None:
    blocks = []
    for number in range(20):
        functions: dict[str, object] = {}
        exec(compile(ALLOCATE, f"/gone/{number}.py", "exec"), functions)
        blocks.append(functions["allocate"](raw.PyMem_RawMalloc))  # type: ignore[operator]
    del functions
    gc.collect()
    for number in range(1000):
        compile(ALLOCATE, f"/later/{number}.py", "exec")
    for number, block in enumerate(blocks):
        assert lines(misbehave, block)[0] == (f"/gone/{number}.py", "allocate")
        raw.PyMem_RawFree(block)
