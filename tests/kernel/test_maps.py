"""AddressSpace against the text that the kernel gives."""

import errno
import gc
import itertools
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from memprot import PAGE_SIZE, AddressSpace, Mapping, Prot, calls
from memprot.flags import MapFlag

ANONYMOUS = MapFlag.PRIVATE | MapFlag.ANONYMOUS
RW = Prot.READ | Prot.WRITE
LINE = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-])([sp]) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)\n")
Fields = tuple[int, int, str, bool, int, tuple[int, int], int, str | None]


def parsed(text: bytes) -> list[Fields]:
    """The text, read by other means than ours."""
    found: list[Fields] = []
    for line in text.splitlines(keepends=True):
        match = LINE.fullmatch(line)
        assert match is not None, line
        start, stop, prot, mode, offset, major, minor, inode, name = match.groups()
        path = os.fsdecode(name.replace(rb"\012", b"\n").removesuffix(b" (deleted)")) if name else None
        device = int(major, 16), int(minor, 16)
        numbers = int(start, 16), int(stop, 16), prot.decode(), mode == b"s", int(offset, 16)
        found.append((*numbers, device, int(inode), path))
    return found


def fields(mapping: Mapping) -> Fields:
    return (
        mapping.start,
        mapping.stop,
        str(mapping.prot),
        mapping.shared,
        mapping.offset,
        mapping.device,
        mapping.inode,
        mapping.path,
    )


SLEEPER = "import sys; print('ready', flush=True); sys.stdin.read()"


@contextmanager
def child() -> Iterator[int]:
    """A process that stands still."""
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid


def test_iteration_agrees_with_the_text_line_by_line() -> None:
    with child() as pid:
        text = Path(f"/proc/{pid}/maps").read_bytes()
        assert [fields(mapping) for mapping in AddressSpace(pid)] == parsed(text)


def test_our_own_mappings_are_among_those_of_our_text() -> None:
    lines = set(parsed(Path("/proc/self/maps").read_bytes()))
    assert len(lines & {fields(mapping) for mapping in AddressSpace()}) >= len(lines) - 10


def test_find_agrees_with_iteration_everywhere() -> None:
    with child() as pid:
        space = AddressSpace(pid)
        mappings = list(space)
        for mapping in mappings:
            for address in (mapping.start, mapping.start + mapping.size // 2, mapping.stop - 1):
                assert space.find(address) == mapping
        for start, stop in space.gaps():
            assert space.find(start) is None
            assert space.find(stop - 1) is None
        assert space.find(mappings[0].start - 1) is None
        assert space.find(2**64 - 1) is None
        if os.uname().machine == "x86_64" and mappings[-1].path == "[vsyscall]":
            assert space.find(mappings[-1].start + 8) == mappings[-1]
            assert space.find(mappings[-1].start - 2**64) is None


def test_find_outside_the_numbers_of_addresses() -> None:
    space = AddressSpace()
    assert space.find(-1) is None
    assert space.find(0) is None
    for address in (2**64, -(2**63) - 1):
        with pytest.raises(OverflowError):
            space.find(address)
    for wrong in (True, 1.0, None, "0x1000"):
        with pytest.raises(TypeError):
            space.find(wrong)  # type: ignore[arg-type]


def test_what_is_mapped_next_is_seen_next() -> None:
    space = AddressSpace()
    before = space.snapshot()
    address = calls.mmap(0, PAGE_SIZE, Prot.NONE, MapFlag.SHARED | MapFlag.ANONYMOUS)
    try:
        found = space.find(address)
        assert found is not None
        assert (found.kind, found.deleted, found.shared) == ("shared_memory", True, True)
        assert found in list(space)
        assert found in space.diff(before).appeared
    finally:
        calls.munmap(address, PAGE_SIZE)
    assert space.find(address) is None


def test_threads_that_map_and_unmap_cause_no_overlap() -> None:
    stop = threading.Event()
    size = 64 * PAGE_SIZE

    def churn() -> None:
        while not stop.is_set():
            address = calls.mmap(0, size, RW, ANONYMOUS)
            for page in range(0, 64, 2):
                calls.mprotect(address + page * PAGE_SIZE, PAGE_SIZE, Prot.READ)
            calls.mprotect(address, size, RW)
            calls.munmap(address, size)

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        space = AddressSpace()
        for _ in range(150):
            mappings = list(space)
            assert all(one.stop <= other.start for one, other in itertools.pairwise(mappings))
            assert all(mapping.start < mapping.stop for mapping in mappings)
            assert any(mapping.kind == "stack" for mapping in mappings)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def run_forked(check: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            check()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_after_a_fork_it_speaks_of_the_child() -> None:
    space = AddressSpace()
    explicit = AddressSpace(os.getpid())
    address = calls.mmap(0, PAGE_SIZE, RW, ANONYMOUS | MapFlag.GROWSDOWN)
    assert space.find(address) is not None

    def check() -> None:
        calls.munmap(address, PAGE_SIZE)
        assert space.find(address) is None
        assert all(address not in mapping for mapping in space)
        # An explicit number goes on meaning the parent.
        assert explicit.find(address) is not None
        assert any(address in mapping for mapping in explicit)

    run_forked(check)
    assert space.find(address) is not None
    calls.munmap(address, PAGE_SIZE)


def test_a_process_that_was_never_there_is_a_lookup_error() -> None:
    for pid in (2**22 + 1, 0, -1, 2**40):
        with pytest.raises(ProcessLookupError, match=str(pid)):
            AddressSpace(pid)


def test_a_pid_must_be_an_int_of_64_bits() -> None:
    for wrong in (True, 1.0, "1"):
        with pytest.raises(TypeError, match="pid"):
            AddressSpace(wrong)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        AddressSpace(2**64)


def test_a_process_that_has_ended_is_a_lookup_error_in_every_question() -> None:
    with child() as pid:
        space = AddressSpace(pid)
        start = next(iter(space)).start
    questions: list[Callable[[], object]] = [
        lambda: list(space),
        lambda: space.find(start),
        space.snapshot,
        lambda: AddressSpace(pid).find(0),
    ]
    for question in questions:
        with pytest.raises(ProcessLookupError, match=str(pid)) as caught:
            question()
        assert caught.value.errno == errno.ESRCH


def test_a_zombie_has_no_address_space() -> None:
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError, match=str(pid)):
            list(AddressSpace(pid))
        with pytest.raises(ProcessLookupError, match=str(pid)):
            AddressSpace(pid).find(0)
    finally:
        os.waitpid(pid, 0)


def test_after_an_execve_it_speaks_of_the_new_program() -> None:
    program = "import os; print('ready', flush=True); os.read(0, 1); os.execv('/bin/cat', ['cat'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        space = AddressSpace(process.pid)
        before = list(space)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"hello\n"
        after = list(space)
        assert after[0] not in before
        for mapping in after:
            assert space.find(mapping.start) == mapping


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")


@needs_root
def test_another_users_process_is_refused_with_the_reason() -> None:
    with child() as pid:

        def check() -> None:
            become_nobody()
            with pytest.raises(PermissionError, match=r"user 0.*user 65534") as caught:
                list(AddressSpace(pid))
            assert caught.value.errno == errno.EACCES

        run_forked(check)


@needs_root
def test_a_process_that_protects_itself_is_refused_with_the_reason() -> None:
    # A process that changed its user is not dumpable until its next execve.
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        become_nobody()
        os.write(writer, b"ready")
        signal.pause()
        os._exit(0)
    try:
        os.read(reader, 5)

        def check() -> None:
            become_nobody()
            with pytest.raises(PermissionError, match="dumpable"):
                AddressSpace(pid)

        run_forked(check)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)


def test_descriptors_are_closed_with_the_object() -> None:
    def open_files() -> set[str]:
        return set(os.listdir("/proc/self/fd"))

    gc.collect()
    before = len(open_files())
    spaces = [AddressSpace(), AddressSpace(os.getpid())]
    for space in spaces:
        list(space)
        space.find(0)
    assert before < len(open_files()) <= before + 3
    del spaces, space
    gc.collect()
    assert len(open_files()) == before


def test_descriptors_are_not_inherited_by_programs() -> None:
    space = AddressSpace(os.getpid())
    listing = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, close_fds=False, check=True)
    assert b"/maps" not in listing.stdout
    assert space.find(0) is None


def test_our_own_address_space_answers_with_no_descriptor_left() -> None:
    space = AddressSpace()
    count = len(list(space))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open("/dev/null") as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno(), hard))
        try:
            mappings = list(space)
            assert space.find(mappings[0].start) == mappings[0]
            assert AddressSpace().find(mappings[0].start) == mappings[0]
            assert abs(len(list(AddressSpace())) - count) < 5
            with pytest.raises(OSError, match="open files"):
                AddressSpace(os.getppid())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert abs(len(mappings) - count) < 5


def test_one_object_serves_many_threads() -> None:
    space = AddressSpace()
    address = calls.mmap(0, PAGE_SIZE, RW, MapFlag.SHARED | MapFlag.ANONYMOUS)
    wrong: list[object] = []

    def ask() -> None:
        for _ in range(50):
            found = space.find(address)
            if found is None or found not in list(space):
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    calls.munmap(address, PAGE_SIZE)
    assert wrong == []


def test_a_process_that_dies_while_it_is_read_is_gone_or_whole() -> None:
    for _ in range(10):
        with child() as pid:
            space = AddressSpace(pid)
            whole = list(space)
            timer = threading.Timer(0.002, os.kill, (pid, signal.SIGKILL))
            timer.start()
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                try:
                    assert list(space) == whole
                except ProcessLookupError:
                    break
            else:
                pytest.fail("the process never went away")
            timer.join()
