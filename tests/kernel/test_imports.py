"""The slots through which objects call read and its like: all of them are watched, and nothing else is changed."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults, protected

SOURCES = Path(__file__).parent.parent / "native"
Build = Callable[..., Path]

WAYS = {
    "bound at the first call": ["-Wl,-z,lazy,-z,norelro"],
    "bound at the first call, the rest read-only": ["-Wl,-z,lazy,-z,relro"],
    "bound when it is loaded": ["-Wl,-z,now,-z,relro"],
    "bound when it is loaded, writable": ["-Wl,-z,now,-z,norelro"],
    "without a linkage table": ["-fno-plt", "-Wl,-z,now,-z,relro"],
    "with the older hash table only": ["-Wl,--hash-style=sysv"],
}


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Build a shared library from a file of tests/native."""

    def compile_library(source: str, *options: str, name: str = "library") -> Path:
        target = tmp_path / f"lib{name}.so"
        command = ["cc", "-shared", "-fPIC", "-O1", "-pthread", "-o", str(target), str(SOURCES / source), *options]
        subprocess.run(command, check=True)
        return target

    return compile_library


@pytest.fixture
def region() -> Region:
    """Two pages; the second one is protected by the tests."""
    return Region(2 * PAGE_SIZE)


def protected_end(region: Region) -> tuple[int, int]:
    region.protect("---", PAGE_SIZE)
    return os.open("/dev/zero", os.O_RDONLY), region.address


def is_seen(library: ctypes.CDLL, region: Region) -> bool:
    """Whether a read that falls short is a fault."""
    fd, address = protected_end(region)
    try:
        with catch_faults():
            assert library.reader_read(fd, ctypes.c_void_p(address), region.size) == PAGE_SIZE
    except FaultError as fault:
        assert (fault.call, fault.transferred, fault.access) == ("read", PAGE_SIZE, "write")
        assert any("reader_read" in str(frame) or "library" in str(frame) for frame in fault.native[:1])
        return True
    finally:
        os.close(fd)
    return False


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_importing_is_watched(build: Build, region: Region, way: str) -> None:
    library = ctypes.CDLL(str(build("reader.c", *WAYS[way])))
    assert is_seen(library, region)
    assert is_seen(library, region)


@pytest.mark.parametrize("way", ["bound at the first call", "bound when it is loaded"])
def test_a_function_that_was_called_before_is_watched(build: Build, region: Region, way: str) -> None:
    library = ctypes.CDLL(str(build("reader.c", *WAYS[way])))
    assert library.reader_read(-1, None, 0) == -1
    assert is_seen(library, region)


def test_a_call_that_the_c_library_checks_is_watched(build: Build) -> None:
    path = build("reader.c", "-D_FORTIFY_SOURCE=2")
    assert b"__read_chk" in path.read_bytes()
    library = ctypes.CDLL(str(path))
    pages = ((ctypes.c_char * 65536) * 2).in_dll(library, "reader_pages")
    fd = os.open("/dev/zero", os.O_RDONLY)
    with pytest.raises(FaultError) as caught, protected(pages[1], "r--"), catch_faults():
        library.reader_checked_read(fd, ctypes.c_size_t(2 * 65536))
    assert (caught.value.call, caught.value.transferred, caught.value.offset) == ("read", 65536, 0)
    os.close(fd)


def test_a_library_that_is_loaded_inside_a_scope_is_watched_from_the_next_one_on(build: Build, region: Region) -> None:
    with catch_faults():
        library = ctypes.CDLL(str(build("reader.c")))
    assert is_seen(library, region)


def test_a_library_that_is_unloaded_and_loaded_again_is_watched(build: Build, region: Region) -> None:
    path = str(build("reader.c"))
    close = ctypes.CDLL(None).dlclose
    close.argtypes = (ctypes.c_void_p,)
    for _ in range(3):
        library = ctypes.CDLL(path)
        assert is_seen(library, region)
        assert close(library._handle) == 0
        with catch_faults():
            pass


def test_tables_are_as_read_only_as_before(build: Build, region: Region) -> None:
    library = ctypes.CDLL(str(build("reader.c", *WAYS["bound when it is loaded"])))

    def mappings() -> list[str]:
        with open("/proc/self/maps") as maps:
            return [line for line in maps if ".so" in line or "python" in line]

    before = mappings()
    assert is_seen(library, region)
    assert mappings() == before


def test_errno_is_what_the_call_has_left(build: Build, region: Region) -> None:
    library = ctypes.CDLL(str(build("reader.c")))
    fd, address = protected_end(region)
    pointer = ctypes.c_void_p(address)
    with catch_faults():
        assert library.reader_errno(fd, pointer, 10, 77) == 77
        assert library.reader_errno(-1, pointer, 10, 77) == -9
    with pytest.raises(FaultError), catch_faults():
        assert library.reader_errno(fd, pointer, region.size, 77) == -77
    with pytest.raises(FaultError), catch_faults():
        assert library.reader_errno(fd, ctypes.c_void_p(address + PAGE_SIZE), 5, 77) == -14
    os.close(fd)


def test_streams_keep_errno_too(build: Build, region: Region) -> None:
    library = ctypes.CDLL(str(build("reader.c")))
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.fopen(b"/dev/zero", b"r"))
    libc.setvbuf(stream, None, 2, 0)
    _, address = protected_end(region)
    error = ctypes.c_int()
    with catch_faults():
        assert library.reader_fread(stream, ctypes.c_void_p(address), 1, 100, ctypes.byref(error)) == 100
    with pytest.raises(FaultError) as caught, catch_faults():
        library.reader_fread(stream, ctypes.c_void_p(address), 1, region.size, ctypes.byref(error))
    assert (caught.value.call, caught.value.transferred, error.value) == ("fread", PAGE_SIZE, 14)
    assert caught.value.offset == PAGE_SIZE
    libc.fclose(stream)


def test_a_function_that_a_library_has_itself_is_left_alone(build: Build, region: Region) -> None:
    own = build("reader.c", "-DOWN_WRITE", name="own")
    library = ctypes.CDLL(str(own), mode=os.RTLD_NOW | os.RTLD_DEEPBIND)
    with catch_faults():
        assert library.reader_write(1, b"", 0) == 1000
    other = build("reader.c", str(own), f"-Wl,-rpath,{own.parent}", "-Wl,-z,lazy,--no-as-needed", name="other")
    library = ctypes.CDLL(str(other), mode=os.RTLD_LAZY | os.RTLD_DEEPBIND)
    with catch_faults():
        assert library.reader_write(1, b"", 0) == 1000


def test_a_preloaded_library_stays_between(build: Build) -> None:
    program = f"""
import ctypes, os
from memprot import FaultError, PAGE_SIZE, Region, catch_faults
library = ctypes.CDLL({str(build("interposer.c", name="interposer"))!r})
calls = ctypes.c_long.in_dll(library, "interposed_calls")
region = Region(2 * PAGE_SIZE)
view = memoryview(region)
region.protect("---", PAGE_SIZE)
with open("/dev/zero", "rb", buffering=0) as zeros:
    before = calls.value
    try:
        with catch_faults():
            zeros.readinto(view)
    except FaultError as fault:
        print(fault.call, fault.transferred == PAGE_SIZE, calls.value - before)
    view.release()
"""
    environment = {**os.environ, "LD_PRELOAD": str(build("interposer.c", name="interposer"))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "read True 1\n"


def test_a_thread_that_waits_in_a_call_can_be_cancelled(build: Build) -> None:
    library = ctypes.CDLL(str(build("reader.c")))
    reading, writing = os.pipe()
    with catch_faults():
        assert library.reader_cancel(reading) == 1
    os.close(reading)
    os.close(writing)


def test_a_library_is_looked_for_where_its_caller_says(build: Build, tmp_path: Path, region: Region) -> None:
    build("interposer.c", name="beside")
    library = ctypes.CDLL(str(build("reader.c", "-Wl,-rpath,$ORIGIN", "-ldl")))
    library.reader_open.restype = ctypes.c_void_p
    for _ in range(2):
        assert library.reader_open(b"libbeside.so") is not None
        assert library.reader_open(b"libnowhere.so") is None
        assert is_seen(library, region)


def test_a_scope_does_not_wait_for_who_waits_for_the_interpreter(build: Build) -> None:
    """A callback in Python runs with the dynamic linker's lock held."""
    libc = ctypes.CDLL(None)
    visit = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    inside = threading.Event()
    going = True

    def callback(*_: object) -> int:
        inside.set()
        return 0

    def act() -> None:
        while going:
            libc.dl_iterate_phdr(visit(callback), None)

    ctypes.CDLL(str(build("reader.c", name="visited")))  # which would wait, with the interpreter in hand
    thread = threading.Thread(target=act)
    thread.start()
    inside.wait()
    for _ in range(200):
        with catch_faults():
            pass
    going = False
    thread.join()


def test_a_thread_without_python_leaves_its_fault_to_the_scope(build: Build, region: Region) -> None:
    library = ctypes.CDLL(str(build("reader.c")))
    fd, address = protected_end(region)
    with pytest.raises(FaultError) as caught, catch_faults():
        assert library.reader_read_elsewhere(fd, ctypes.c_void_p(address), region.size) == PAGE_SIZE
    assert (caught.value.call, caught.value.transferred) == ("read", PAGE_SIZE)
    assert caught.value.thread is not None
    assert caught.value.thread.id != threading.get_native_id()
    os.close(fd)


def test_threads_call_while_slots_change(build: Build, region: Region) -> None:
    """Whatever a thread finds in a slot leads to the same function in the end."""
    reading, writing = os.pipe()
    libraries = [str(build("reader.c", *WAYS["bound at the first call"], name=f"number{i}")) for i in range(8)]
    loaded: list[ctypes.CDLL] = []
    wrong: list[int] = []
    going = True

    def act() -> None:
        byte = ctypes.create_string_buffer(1)
        while going:
            for library in list(loaded):
                if library.reader_write(writing, b"x", 1) != 1 or library.reader_read(reading, byte, 1) != 1:
                    wrong.append(1)

    threads = [threading.Thread(target=act) for _ in range(4)]
    for thread in threads:
        thread.start()
    for path in libraries:
        loaded.append(ctypes.CDLL(path))
        with catch_faults() as scope:
            pass
        assert scope.faults == ()
    going = False
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(is_seen(library, region) for library in loaded)
    os.close(reading)
    os.close(writing)


def test_a_forked_child_watches_too(build: Build, region: Region) -> None:
    path = str(build("reader.c"))
    with catch_faults():
        pass
    child = os.fork()
    if child == 0:
        seen = is_seen(ctypes.CDLL(path), region)
        os._exit(0 if seen else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_signal_handler_may_write(build: Build) -> None:
    """The wakeup descriptor is written to by CPython's own handler, through a slot."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    wakeup = signal.set_wakeup_fd(writing)
    try:
        with catch_faults() as scope:
            signal.raise_signal(signal.SIGUSR1)
            assert os.read(reading, 10) == bytes([signal.SIGUSR1])
        assert scope.faults == ()
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGUSR1, before)
        os.close(reading)
        os.close(writing)
