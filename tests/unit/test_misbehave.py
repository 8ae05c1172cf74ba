"""The module that misbehaves on command does exactly what it is told, as far as legal memory shows it."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

GIL = pytest.mark.parametrize("gil", [True, False])
SIZE = 64


class Memory:
    """Bytes of our own at a known address."""

    def __init__(self, content: bytes = bytes(SIZE)) -> None:
        self.buffer = ctypes.create_string_buffer(content, len(content))
        self.address = ctypes.addressof(self.buffer)

    @property
    def content(self) -> bytes:
        return self.buffer.raw


def run_child(misbehave_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(misbehave_path)}
    return subprocess.run(
        [sys.executable, "-c", f"import misbehave, ctypes\n{code}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@GIL
def test_write_changes_one_byte(misbehave: ModuleType, gil: bool) -> None:
    memory = Memory()
    assert misbehave.write(memory.address + 5, 7, gil=gil) is None
    assert memory.content == bytes(5) + b"\x07" + bytes(SIZE - 6)


@GIL
def test_read_returns_one_byte(misbehave: ModuleType, gil: bool) -> None:
    assert misbehave.read(Memory(b"abc").address + 1, gil=gil) == ord("b")


@GIL
def test_64_bits_are_written_read_and_added(misbehave: ModuleType, gil: bool) -> None:
    memory = Memory()
    misbehave.write64(memory.address, 2**64 - 2, gil=gil)
    misbehave.add64(memory.address, 1, gil=gil)
    assert misbehave.read64(memory.address, gil=gil) == 2**64 - 1
    assert memory.content == b"\xff" * 8 + bytes(SIZE - 8)


@GIL
def test_bytes_are_written_and_read_one_by_one(misbehave: ModuleType, gil: bool) -> None:
    memory = Memory()
    misbehave.write_bytes(memory.address + 1, b"hello", gil=gil)
    assert memory.content == b"\0hello" + bytes(SIZE - 6)
    assert misbehave.read_bytes(memory.address, 6, gil=gil) == b"\0hello"


@GIL
@pytest.mark.parametrize("name", ["set", "stosb"])
def test_a_range_is_filled(misbehave: ModuleType, name: str, gil: bool) -> None:
    memory = Memory()
    getattr(misbehave, name)(memory.address + 1, 9, 10, gil=gil)
    assert memory.content == b"\0" + b"\x09" * 10 + bytes(SIZE - 11)


@GIL
@pytest.mark.parametrize("name", ["move", "move_forwards", "move_backwards", "movsb"])
def test_a_range_is_copied(misbehave: ModuleType, name: str, gil: bool) -> None:
    memory, source = Memory(), Memory(bytes(range(10)))
    getattr(misbehave, name)(memory.address + 1, source.address, 10, gil=gil)
    assert memory.content == b"\0" + bytes(range(10)) + bytes(SIZE - 11)


def test_the_copying_loops_differ_in_direction(misbehave: ModuleType) -> None:
    forwards, backwards = Memory(b"abcd"), Memory(b"abcd")
    misbehave.move_forwards(forwards.address + 1, forwards.address, 3)
    misbehave.move_backwards(backwards.address + 1, backwards.address, 3)
    assert forwards.content == b"aaaa"
    assert backwards.content == b"aabc"


@GIL
def test_hammer_writes_once_a_stride(misbehave: ModuleType, gil: bool) -> None:
    memory = Memory(b"\xff" * SIZE)
    misbehave.hammer(memory.address, 16, 4, gil=gil)
    assert memory.content == b"".join(bytes([i]) + b"\xff" * 15 for i in range(4))


def test_a_loop_writes_until_its_flag_is_set(misbehave: ModuleType) -> None:
    memory, flag = Memory(), Memory()
    counts: list[int] = []

    def write() -> None:
        counts.append(misbehave.write_in_loop_until(memory.address, 3, flag.address))

    thread = threading.Thread(target=write)
    thread.start()
    while memory.content[0] != 3:
        pass
    misbehave.write(flag.address, 1)
    thread.join()
    assert counts[0] > 0


@pytest.mark.parametrize("options", [{}, {"gil": True}, {"wait": False}])
def test_a_thread_without_python_writes(misbehave: ModuleType, options: dict[str, Any]) -> None:
    memory = Memory()
    misbehave.write_from_c_thread(memory.address, 5, **options)
    while options.get("wait") is False and memory.content[0] != 5:
        pass
    assert memory.content[0] == 5


def test_a_write_with_signals_blocked_leaves_the_mask_as_it_was(misbehave: ModuleType) -> None:
    memory = Memory()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    misbehave.write_with_signals_blocked(memory.address, 5)
    assert memory.content[0] == 5
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@GIL
def test_a_jump_calls_a_function(misbehave: ModuleType, gil: bool) -> None:
    callback = ctypes.CFUNCTYPE(ctypes.c_uint64)(lambda: 7)
    assert misbehave.call(ctypes.cast(callback, ctypes.c_void_p).value, gil=gil) == 7


def test_a_write_on_the_way_to_an_exception_happens(misbehave: ModuleType) -> None:
    memory = Memory()
    with pytest.raises(ValueError, match="before the write"):
        misbehave.write_with_error_set(memory.address, 5)
    assert memory.content[0] == 5


def test_a_function_is_called_after_the_write(misbehave: ModuleType) -> None:
    memory = Memory()
    assert misbehave.write_then_call(memory.address, 5, lambda: memory.content[0]) == 5


def test_an_exception_is_swallowed(misbehave: ModuleType) -> None:
    assert misbehave.call_and_swallow(lambda: 1 / 0) is True
    assert misbehave.call_and_swallow(lambda: 1) is False


def test_an_exception_left_behind_is_a_system_error(misbehave: ModuleType) -> None:
    assert misbehave.call_twice_without_check(lambda: None) is None
    with pytest.raises(SystemError):
        misbehave.call_twice_without_check(lambda: 1 / 0)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("misbehave.null_write()", signal.SIGSEGV),
        ("misbehave.overflow_stack()", signal.SIGSEGV),
        ("misbehave.raise_signal(10)", signal.SIGUSR1),
        ("misbehave.call(ctypes.addressof(ctypes.create_string_buffer(64)))", signal.SIGSEGV),
        ("misbehave.write_from_c_thread(0, 1)", signal.SIGSEGV),
        ("misbehave.write_with_signals_blocked(0, 1)", signal.SIGSEGV),
        ("misbehave.read64(8, gil=False)", signal.SIGSEGV),
    ],
)
def test_what_must_die_dies_of_its_signal(misbehave_path: Path, code: str, expected: signal.Signals) -> None:
    ended = run_child(misbehave_path, code)
    assert ended.returncode == -expected, ended.stderr
