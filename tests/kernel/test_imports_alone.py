"""Objects whose slots memprot leaves alone, or may not change: they go on as if nothing had happened."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from memprot import features

SOURCES = Path(__file__).parent.parent / "native"

SETUP = """
import ctypes, os, sys
from memprot import FaultError, PAGE_SIZE, Region, calls, catch_faults, deny_write_execute
region = Region(2 * PAGE_SIZE)
view = memoryview(region)
region.protect("---", PAGE_SIZE)
zeros = os.open("/dev/zero", os.O_RDONLY)

def outcome(act):
    try:
        with catch_faults():
            return act()
    except FaultError as fault:
        return fault.call, fault.transferred == PAGE_SIZE

def through(library):
    return outcome(lambda: library.reader_read(zeros, ctypes.c_void_p(region.address), region.size) == PAGE_SIZE)
"""


def run(program: str, *command: str) -> list[str]:
    done = subprocess.run(
        [*(command or (sys.executable, "-c")), SETUP + program + "view.release()\n"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """One whose linkage table is read-only once it is loaded."""
    target = tmp_path / "libreader.so"
    command = ["cc", "-shared", "-fPIC", "-pthread", "-Wl,-z,now,-z,relro", "-o", str(target)]
    subprocess.run([*command, str(SOURCES / "reader.c")], check=True)
    return target


def test_a_table_that_is_sealed_stays_as_it_is(library: Path) -> None:
    program = f"""
library = ctypes.CDLL({str(library)!r})
with open("/proc/self/maps") as maps:
    ranges = [line.split()[0] for line in maps if {str(library)!r} in line]
for start, stop in ([int(end, 16) for end in span.split("-")] for span in ranges):
    calls.mseal(start, stop - start)
print(through(library), outcome(lambda: os.readv(zeros, [view])))
"""
    if not features.available("mseal"):
        pytest.skip("this kernel cannot seal memory")
    assert run(program) == ["True ('readv', True)"]


def test_tables_are_changed_where_written_memory_must_never_be_executed(library: Path) -> None:
    if not features.available("mdwe"):
        pytest.skip("this kernel cannot deny it")
    program = f"""
deny_write_execute()
print(through(ctypes.CDLL({str(library)!r})))
"""
    assert run(program) == ["('read', True)"]


@pytest.mark.parametrize("options", [(), ("-Wl,-z,now",), ("-Wl,-z,lazy,-z,norelro",)], ids=str)
def test_a_program_that_offers_its_own_table_as_the_function_does_not_call_itself(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    if not sysconfig.get_config_var("Py_ENABLE_SHARED") or os.uname().machine != "x86_64":
        pytest.skip("this interpreter is no library")
    folder = sysconfig.get_config_var("LIBDIR")
    python = f"-lpython{sysconfig.get_config_var('LDVERSION')}"
    program = str(tmp_path / "fixed_address")
    command = ["cc", "-O1", "-no-pie", "-fno-pie", *options, f"-I{sysconfig.get_path('include')}", "-o", program]
    command += [str(SOURCES / "fixed_address.c"), f"-L{folder}", python, f"-Wl,-rpath,{folder}"]
    subprocess.run(command, check=True)
    code = """
import fixed_address
print(outcome(lambda: fixed_address.read(zeros, region.address, region.size) == (PAGE_SIZE, PAGE_SIZE)))
print(outcome(lambda: os.readv(zeros, [view])))
"""
    assert run(code, program, sys.executable) == ["True", "('readv', True)"]


def test_calls_pass_by_while_the_interpreter_ends() -> None:
    program = """
import atexit

class Late:
    def __del__(self, write=os.write):
        write(1, b"late\\n")

late = Late()
sys.late = late
atexit.register(os.write, 1, b"at exit\\n")
print(outcome(lambda: os.readv(zeros, [view])), flush=True)
"""
    assert run(program) == ["('readv', True)", "at exit", "late"]
