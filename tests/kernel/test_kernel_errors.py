"""Calls that pass by memprot, through ctypes for one: only the OSError tells, and its traceback knows the buffer."""

import ctypes
import os
from collections.abc import Callable, Iterator

import numpy
import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults


@pytest.fixture
def region() -> Region:
    """Two pages, of which the second may not be touched."""
    region = Region(2 * PAGE_SIZE)
    region.protect("---", PAGE_SIZE)
    return region


@pytest.fixture
def zeros() -> Iterator[int]:
    fd = os.open("/dev/zero", os.O_RDONLY)
    yield fd
    os.close(fd)


def check(act: Callable[[], object], region: Region, call: str) -> None:
    with pytest.raises(FaultError) as caught, catch_faults() as scope:
        act()
    fault = caught.value
    assert scope.faults == (fault,)
    assert (fault.call, fault.access, fault.cause) == (call, "write", "protection")
    assert (fault.offset, fault.region, fault.transferred) == (PAGE_SIZE, region, 0)
    assert isinstance(fault.__context__, OSError)


def bad_address(result: int, *_: object) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@pytest.fixture
def libc() -> ctypes.CDLL:
    """Functions found by their names, which raise what errno says."""
    library = ctypes.CDLL(None, use_errno=True)
    for function in (library.read, library.write, library.ioctl):
        function.errcheck = bad_address  # type: ignore[assignment]
    return library


def test_the_error_of_a_call_through_ctypes_is_a_fault(region: Region, zeros: int, libc: ctypes.CDLL) -> None:
    buffer = (ctypes.c_char * PAGE_SIZE).from_address(region.address + PAGE_SIZE)
    check(lambda: libc.read(zeros, buffer, PAGE_SIZE), region, "read")


def test_the_error_of_a_call_that_nobody_watches_is_a_fault(region: Region) -> None:
    """The code that raises the error has the buffer in a variable."""
    read_terminal_size = 0x5413
    leader, follower = os.openpty()
    array = numpy.frombuffer(memoryview(region), "u1")[PAGE_SIZE:]

    def ask_for_size(array: numpy.ndarray) -> None:
        if ctypes.CDLL(None, use_errno=True).ioctl(follower, read_terminal_size, ctypes.c_void_p(array.ctypes.data)):
            raise OSError(ctypes.get_errno(), "the size of the terminal is not known")

    check(lambda: ask_for_size(array), region, "ask_for_size")
    os.close(leader)
    os.close(follower)


def test_the_error_of_another_call_stays_an_error(region: Region, zeros: int, libc: ctypes.CDLL) -> None:
    with pytest.raises(OSError, match="Bad address"), catch_faults() as scope:
        libc.read(zeros, 16, 5)
    with pytest.raises(OSError, match="Bad file"), catch_faults() as scope:
        libc.read(-1, (ctypes.c_char * 5).from_address(region.address + PAGE_SIZE), 5)
    assert scope.faults == ()


def test_an_error_that_came_with_a_fault_is_none_of_its_own(region: Region, zeros: int) -> None:
    buffer = (ctypes.c_char * PAGE_SIZE).from_address(region.address + PAGE_SIZE)
    scope = catch_faults()
    with pytest.raises(OSError, match="Bad address"), scope:
        try:
            try:
                os.readv(zeros, [buffer])
            except OSError as error:
                failure = error
                scope.check()
        except FaultError as fault:
            assert fault.__context__ is failure
        raise failure
    assert len(scope.faults) == 1
