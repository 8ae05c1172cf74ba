"""A call that is given protected memory: the kernel's accesses become faults, and nothing else does."""

import ctypes
import errno
import io
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

import numpy
import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults, guarded, protect, protected

Source = Callable[[int], int]


@pytest.fixture
def region(shared: bool) -> Iterator[Region]:
    """Four pages, of which the second and third may not be touched."""
    region = Region(4 * PAGE_SIZE, shared=shared)
    region[:] = b"\7" * region.size
    yield region
    region.protect("rw-")
    assert region[PAGE_SIZE : 3 * PAGE_SIZE] == b"\7" * (2 * PAGE_SIZE)


@pytest.fixture
def view(region: Region) -> memoryview:
    view = memoryview(region)
    region.protect("---", PAGE_SIZE, 3 * PAGE_SIZE)
    return view


@pytest.fixture
def zeros() -> Iterator[int]:
    fd = os.open("/dev/zero", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def file() -> Iterator[int]:
    """A file of 8 pages."""
    with tempfile.TemporaryFile() as opened:
        opened.write(b"f" * (8 * PAGE_SIZE))
        opened.flush()
        opened.seek(0)
        yield opened.fileno()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def fault_of(act: Callable[[], object]) -> FaultError:
    with pytest.raises(FaultError) as caught, catch_faults() as scope:
        act()
    assert scope.faults == (caught.value,)
    assert caught.value.others == ()
    return caught.value


def check(fault: FaultError, region: Region, call: str, access: str, transferred: int) -> None:
    assert (fault.call, fault.access, fault.cause) == (call, access, "protection")
    assert (fault.offset, fault.transferred) == (PAGE_SIZE, transferred)
    assert fault.region is region
    assert fault.address == region.address + PAGE_SIZE
    assert fault.thread is not None
    assert fault.thread.id == threading.get_native_id()


# ---- calls that fail

FAILING: dict[str, tuple[Callable[[int, memoryview], object], str, str]] = {
    "os.readv": (lambda fd, view: os.readv(fd, [view]), "readv", "write"),
    "os.readv of several parts": (lambda fd, view: os.readv(fd, [view[:0], view, bytearray(5)]), "readv", "write"),
    "os.preadv": (lambda fd, view: os.preadv(fd, [view], 0), "preadv2", "write"),
    "FileIO.readinto": (lambda fd, view: io.FileIO(fd, closefd=False).readinto(view), "read", "write"),
    "open().readinto": (
        lambda fd, view: open(fd, "rb", buffering=0, closefd=False).readinto(view),  # noqa: SIM115
        "read",
        "write",
    ),
    "os.write": (lambda fd, view: os.write(fd, view), "write", "read"),
    "os.writev": (lambda fd, view: os.writev(fd, [view]), "writev", "read"),
    "os.pwrite": (lambda fd, view: os.pwrite(fd, view, 0), "pwrite", "read"),
    "os.pwritev": (lambda fd, view: os.pwritev(fd, [view], 0), "pwritev2", "read"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_call_that_fails_for_protected_memory_is_a_fault(
    region: Region, view: memoryview, file: int, name: str
) -> None:
    act, call, access = FAILING[name]
    fault = fault_of(lambda: act(file, view[PAGE_SIZE:]))
    check(fault, region, call, access, 0)
    assert isinstance(fault.__context__, OSError)
    assert fault.__context__.errno == errno.EFAULT


def test_an_array_that_writes_itself_to_a_file_is_a_fault(region: Region, view: memoryview) -> None:
    array = numpy.asarray(view)
    with tempfile.TemporaryFile() as opened:
        fault = fault_of(lambda: array[PAGE_SIZE:].tofile(opened))
        check(fault, region, "fwrite", "read", 0)


SOCKETS: dict[str, tuple[Callable[[socket.socket, memoryview], object], str, str]] = {
    "recv_into": (lambda own, view: own.recv_into(view), "recv", "write"),
    "recvfrom_into": (lambda own, view: own.recvfrom_into(view), "recvfrom", "write"),
    "recvmsg_into": (lambda own, view: own.recvmsg_into([bytearray(1), view]), "recvmsg", "write"),
    "send": (lambda own, view: own.send(view), "send", "read"),
    "sendall": (lambda own, view: own.sendall(view), "send", "read"),
    "sendmsg": (lambda own, view: own.sendmsg([b"1", view]), "sendmsg", "read"),
}


@pytest.mark.parametrize("name", SOCKETS)
def test_a_socket_that_fails_for_protected_memory_is_a_fault(
    region: Region, view: memoryview, pair: tuple[socket.socket, socket.socket], name: str
) -> None:
    act, call, access = SOCKETS[name]
    pair[1].send(b"m" * 100)
    check(fault_of(lambda: act(pair[0], view[PAGE_SIZE:])), region, call, access, 0)


def test_the_first_forbidden_byte_is_named_where_the_call_fails_as_a_whole(
    region: Region, view: memoryview, pair: tuple[socket.socket, socket.socket]
) -> None:
    pair[1].send(b"m" * (2 * PAGE_SIZE))
    fault = fault_of(lambda: pair[0].recv_into(view[10:]))
    assert isinstance(fault.__context__, OSError)
    check(fault, region, "recv", "write", 0)


# ---- calls that fall short

SHORT: dict[str, tuple[Callable[[int, memoryview], object], str, str]] = {
    **FAILING,
    "os.readv of several parts": (lambda fd, view: os.readv(fd, [view[:100], view[100:]]), "readv", "write"),
}


@pytest.mark.parametrize("name", SHORT)
def test_a_call_that_falls_short_of_protected_memory_is_a_fault(
    region: Region, view: memoryview, file: int, name: str
) -> None:
    act, call, access = SHORT[name]
    check(fault_of(lambda: act(file, view[1000:])), region, call, access, PAGE_SIZE - 1000)
    if access == "write":
        assert view[1000:PAGE_SIZE] == b"f" * (PAGE_SIZE - 1000)


def test_a_source_without_end_falls_short_too(region: Region, view: memoryview, zeros: int) -> None:
    check(fault_of(lambda: os.readv(zeros, [view])), region, "readv", "write", PAGE_SIZE)
    assert view[:PAGE_SIZE] == bytes(PAGE_SIZE)


def test_a_pipe_falls_short_where_it_has_more(region: Region, view: memoryview, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"p" * (PAGE_SIZE + 1))
    check(fault_of(lambda: os.readv(pipe[0], [view])), region, "readv", "write", PAGE_SIZE)
    assert os.read(pipe[0], 10) == b"p"


def test_a_stream_socket_falls_short_where_it_has_more(
    region: Region, view: memoryview, pair: tuple[socket.socket, socket.socket]
) -> None:
    pair[1].send(b"s" * 3000)
    pair[1].send(b"s" * 3000)
    check(fault_of(lambda: pair[0].recv_into(view)), region, "recv", "write", 3000)


def test_writing_to_a_pipe_falls_short(region: Region, view: memoryview, pipe: tuple[int, int]) -> None:
    check(fault_of(lambda: os.write(pipe[1], view)), region, "write", "read", PAGE_SIZE)


def test_what_the_call_returns_is_not_changed(view: memoryview, zeros: int) -> None:
    """A list appended to before the fault is raised keeps the count."""
    program = "def act(readv, fd, view, counts):\n    counts += [readv(fd, [view])]"
    counts: list[int] = []
    names: dict[str, Callable[..., object]] = {}
    exec(program, names)
    scope = catch_faults()
    with pytest.raises(FaultError) as caught, scope:
        names["act"](os.readv, zeros, view, counts)
    assert caught.value.transferred == PAGE_SIZE
    assert counts in ([], [PAGE_SIZE])


# ---- other memory


def test_memory_given_to_protect_counts(zeros: int) -> None:
    memory = mmap.mmap(-1, 2 * PAGE_SIZE)
    array = numpy.frombuffer(memory, "u1")
    with protected(array[PAGE_SIZE:], "r--"):
        fault = fault_of(lambda: os.readv(zeros, [memory]))
    assert (fault.call, fault.access, fault.cause, fault.transferred) == ("readv", "write", "protection", PAGE_SIZE)
    assert fault.address == array.ctypes.data + PAGE_SIZE
    protect(array, "r--")
    fault = fault_of(lambda: os.readv(zeros, [memory]))
    assert (fault.address, fault.transferred, fault.offset) == (array.ctypes.data, 0, 0)
    protect(array, "rw-")
    with catch_faults():
        assert os.readv(zeros, [memory]) == 2 * PAGE_SIZE


def test_a_guard_counts(zeros: int) -> None:
    block = guarded(100)
    behind = (ctypes.c_char * PAGE_SIZE).from_address(block.address)
    fault = fault_of(lambda: os.readv(zeros, [behind]))
    assert (fault.call, fault.cause, fault.offset, fault.transferred) == ("readv", "guard", 100, 100)


def test_a_file_that_has_become_shorter_counts(zeros: int) -> None:
    with tempfile.NamedTemporaryFile() as opened:
        opened.truncate(4 * PAGE_SIZE)
        with Region.from_file(opened.name, "rw-") as region, memoryview(region) as view:
            os.truncate(opened.name, PAGE_SIZE)
            fault = fault_of(lambda: os.readv(zeros, [view]))
    assert (fault.call, fault.cause, fault.transferred) == ("readv", "bus", PAGE_SIZE)
    assert fault.record is not None
    assert fault.record.kind == "bus"


def test_memory_that_may_be_read_is_written_from(region: Region, view: memoryview, pipe: tuple[int, int]) -> None:
    region.protect("r--")
    with catch_faults():
        assert os.write(pipe[1], view[:100]) == 100


def test_a_buffered_reader_copies_itself_or_has_the_kernel_do_it(region: Region, view: memoryview, file: int) -> None:
    with io.BufferedReader(io.FileIO(file, closefd=False), PAGE_SIZE) as reader:
        reader.read(1)
        fault = fault_of(lambda: reader.readinto(view[PAGE_SIZE : PAGE_SIZE + 10]))
        assert (fault.call, fault.access, fault.offset) == (None, "write", PAGE_SIZE)
    with io.BufferedReader(io.FileIO(file, closefd=False), PAGE_SIZE) as reader:
        fault = fault_of(lambda: reader.readinto(view[PAGE_SIZE : 3 * PAGE_SIZE]))
        assert (fault.call, fault.access, fault.offset) == ("read", "write", PAGE_SIZE)


def test_the_sentence_names_the_call(region: Region, view: memoryview, zeros: int) -> None:
    fault = fault_of(lambda: os.readv(zeros, [view[1:]]))
    assert str(fault) == (
        f"write of {3 * PAGE_SIZE} bytes at {region.address + PAGE_SIZE:#x} in readv ({PAGE_SIZE - 1} bytes moved "
        f"before), byte {PAGE_SIZE} of a Region whose protection forbids it"
    )


# ---- policies


def test_policies_that_raise_nothing_leave_the_calls_result(region: Region, view: memoryview, zeros: int) -> None:
    told: list[FaultError] = []
    for policy in ("log", "discard", told.append):
        with catch_faults(policy=policy) as scope:
            assert os.readv(zeros, [view]) == PAGE_SIZE
            with pytest.raises(OSError, match="Bad address"):
                os.readv(zeros, [view[PAGE_SIZE:]])
            scope.check()
    assert [(fault.call, fault.transferred) for fault in told] == [("readv", PAGE_SIZE), ("readv", 0)]


def test_a_regions_own_policy_needs_no_scope(region: Region, view: memoryview, zeros: int) -> None:
    region.policy = "raise"
    with pytest.raises(FaultError) as caught:
        len(str(os.readv(zeros, [view])))
    assert (caught.value.call, caught.value.transferred) == ("readv", PAGE_SIZE)
    region.policy = None


# ---- no fault


def test_the_end_of_a_file_is_no_fault(view: memoryview, file: int) -> None:
    """Not even where it comes just before the protected page."""
    with catch_faults() as scope:
        assert os.preadv(file, [view], 7 * PAGE_SIZE) == PAGE_SIZE
        assert os.preadv(file, [view], 8 * PAGE_SIZE) == 0
        assert os.preadv(file, [view], 8 * PAGE_SIZE - 10) == 10
        os.lseek(file, 7 * PAGE_SIZE, os.SEEK_SET)
        assert os.readv(file, [view]) == PAGE_SIZE
    assert scope.faults == ()


def test_a_pipe_with_less_in_it_is_no_fault(view: memoryview, pipe: tuple[int, int]) -> None:
    with catch_faults() as scope:
        for size in (1, 100, PAGE_SIZE):
            os.write(pipe[1], bytes(size))
            assert os.readv(pipe[0], [view]) == size
    assert scope.faults == ()


def test_sockets_with_less_in_them_are_no_fault(view: memoryview) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        with ours, theirs, catch_faults() as scope:
            for size in (1, 100, PAGE_SIZE):
                theirs.send(bytes(size))
                assert ours.recv_into(view, 0, socket.MSG_PEEK) == size
                theirs.send(b"next") if kind != socket.SOCK_STREAM else None
                assert ours.recv_into(view) == size
                assert kind == socket.SOCK_STREAM or ours.recv(100) == b"next"
        assert scope.faults == ()


def test_a_full_pipe_is_no_fault(region: Region, pipe: tuple[int, int]) -> None:
    region.protect("rw-")
    os.set_blocking(pipe[1], False)
    with catch_faults() as scope, Region(1 << 20) as large, memoryview(large) as view:
        large.protect("---", 1 << 19)
        assert os.write(pipe[1], view) < 1 << 19
    assert scope.faults == ()


def test_a_bad_address_that_is_not_memprots_stays_an_error(zeros: int) -> None:
    memory = mmap.mmap(-1, PAGE_SIZE, prot=mmap.PROT_READ)
    address = numpy.frombuffer(memory, "u1").ctypes.data
    nowhere = (ctypes.c_char * 10).from_address(16)
    alien = (ctypes.c_char * PAGE_SIZE).from_address(address)
    for buffer in (nowhere, alien):
        with pytest.raises(OSError, match="Bad address") as caught, catch_faults() as scope:
            os.readv(zeros, [buffer])
        assert caught.value.errno == errno.EFAULT
        assert scope.faults == ()


def test_without_a_scope_the_kernels_error_is_the_programs(view: memoryview, zeros: int) -> None:
    with pytest.raises(OSError, match="Bad address"):
        os.readv(zeros, [view[PAGE_SIZE:]])
    assert os.readv(zeros, [view]) == PAGE_SIZE
    with catch_faults() as scope:
        pass
    assert scope.faults == ()


def test_a_thread_gets_its_own_faults(region: Region, view: memoryview, zeros: int) -> None:
    caught: list[FaultError] = []

    def act() -> None:
        caught.append(fault_of(lambda: os.readv(zeros, [view[PAGE_SIZE:]])))

    with catch_faults() as scope:
        threads = [threading.Thread(target=act) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert scope.faults == ()
    assert len(caught) == 4
    assert len({fault.thread.id for fault in caught if fault.thread}) == 4


def test_children_run_as_ever_in_a_scope(region: Region) -> None:
    with catch_faults() as scope:
        done = subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, check=True)
        assert done.stdout == b"1\n"
    assert scope.faults == ()
