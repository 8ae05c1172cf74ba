"""What the handler writes down reaches the reader of a FaultError whole, however late it is read."""

import ctypes
import os
import threading
from typing import Any

import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults

PR_SET_NAME = 15


def fault_of(region: Region) -> FaultError:
    with pytest.raises(FaultError) as caught, catch_faults():
        ctypes.memset(region.address, 1, 8)
    return caught.value


def the_function_with_a_näme(region: Region) -> FaultError:
    return fault_of(region)


def test_the_stacks_are_there_after_the_region_and_the_frames_are_gone() -> None:
    with Region(PAGE_SIZE, "r--") as region:
        fault = the_function_with_a_näme(region)
    record = fault.record
    assert record is not None
    assert record.python is not None
    functions = [frame.function for frame in record.python]
    assert functions[:2] == ["fault_of", "the_function_with_a_näme"]
    assert record.python[0].file == __file__
    assert record.python[0].line == fault_of.__code__.co_firstlineno + 2
    assert len(record.native) > 1
    assert record.native[0].function is not None


def test_a_thread_name_cut_off_within_a_character_does_not_lose_the_fault() -> None:
    faults = []

    def body() -> None:
        ctypes.CDLL(None).prctl(PR_SET_NAME, ("x" + "ä" * 8).encode(), 0, 0, 0)
        ctypes.CDLL(None).prctl(PR_SET_NAME, ("ä" * 8).encode(), 0, 0, 0)
        with Region(PAGE_SIZE, "r--") as region:
            faults.append(fault_of(region))

    thread = threading.Thread(target=body, name="painter")
    thread.start()
    thread.join()
    assert faults[0].thread is not None
    assert faults[0].thread.id == thread.native_id


def test_the_thread_of_a_fault_in_a_forked_child_is_the_childs() -> None:
    with Region(PAGE_SIZE, "r--") as region:
        fault_of(region)
        child = os.fork()
        if child == 0:
            thread = fault_of(region).thread
            os._exit(0 if thread is not None and (thread.id, thread.name) == (os.getpid(), "MainThread") else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Closing:
    """A number that closes the Region when it is asked for."""

    def __init__(self, region: Region) -> None:
        self.region = region

    def __index__(self) -> int:
        self.region.close()
        return 0


def test_reading_and_writing_take_their_arguments_by_name_and_refuse_others() -> None:
    with Region(PAGE_SIZE) as region:
        assert region.write(data=b"abc", offset=2) == 3
        assert region.read(size=3, offset=2) == region.read(2, size=3) == b"abc"
        assert len(region.read(offset=1)) == PAGE_SIZE - 1
        read: Any = region.read
        write: Any = region.write
        for call in (
            lambda: read(0, 1, 2),
            lambda: read(0, offset=1),
            lambda: read(length=1),
            lambda: read(1.5),
            write,
            lambda: write(0),
            lambda: write(0, "text"),
            lambda: write(0, b"x", data=b"y"),
        ):
            with pytest.raises(TypeError):
                call()


def test_a_region_closed_by_its_own_argument_is_closed() -> None:
    region: Any = Region(PAGE_SIZE)
    with pytest.raises(ValueError, match="closed"):
        region.read(Closing(region), 8)
    region = Region(PAGE_SIZE)
    with pytest.raises(ValueError, match="closed"):
        region.write(Closing(region), b"x")
