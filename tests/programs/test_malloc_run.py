"""``memprot run --guard malloc``: the blocks that C code asks for are guarded, and the program sees no trace of how."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from memprot.run import preload

HEADER = """
import ctypes, os, subprocess, sys
import memprot
from memprot import guard
libc = ctypes.CDLL(None)
for name in ("malloc", "realloc", "calloc"):
    getattr(libc, name).restype = ctypes.c_void_p
libc.free.argtypes = libc.malloc_usable_size.argtypes = [ctypes.c_void_p]
libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

def told(do):
    try:
        do()
    except memprot.FaultError as fault:
        return fault
"""


def run(
    tmp_path: Path, code: str, *options: str, env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    program = tmp_path / "app.py"
    program.write_text(HEADER + code)
    command = [sys.executable, "-m", "memprot", "run", "--guard", "malloc", *options, str(program)]
    return subprocess.run(
        command, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False, timeout=120
    )


def printed(tmp_path: Path, code: str, *options: str, env: dict[str, str] | None = None) -> str:
    done = run(tmp_path, code, *options, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("side", "offset", "distance"), [("right", 48, "0 bytes past the end"), ("left", -1, "1 byte before the start")]
)
def test_a_byte_beside_a_block_is_a_fault_error_and_the_program_goes_on(
    tmp_path: Path, side: str, offset: int, distance: str
) -> None:
    done = run(
        tmp_path,
        f"""
block = libc.malloc(48)
fault = told(lambda: ctypes.memset(block + {offset}, 1, 1))
print(fault.access, fault.cause, fault.record.block.nbytes, fault.record.block.address == block)
ctypes.memset(block, 1, 48)
libc.free(block)
""",
        "--side",
        side,
    )
    assert (done.returncode, done.stdout) == (0, "write guard 48 True\n")
    assert f"memprot: write of 1 byte, {distance} of a block of 48 bytes" in done.stderr


def test_what_grows_or_is_zeroed_is_guarded_too(tmp_path: Path) -> None:
    code = """
grown, zeroed = libc.realloc(libc.malloc(10), 3008), libc.calloc(8, 8)
print(*(told(lambda: ctypes.string_at(block + size, 1)).record.block.nbytes for block, size in ((grown, 3008), (zeroed, 64))))
"""
    assert printed(tmp_path, code) == "3008 64\n"


def test_blocks_from_before_are_left_alone(tmp_path: Path) -> None:
    code = """
guard.disable("malloc")
before = libc.malloc(100)
guard.enable("malloc")
after = libc.malloc(100)
print(libc.malloc_usable_size(before) > 100, libc.malloc_usable_size(after) == 100)
before = libc.realloc(before, 100000)
print(told(lambda: ctypes.memset(before, 1, 100000)))
libc.free(before)
guard.disable("malloc")
libc.free(after)
"""
    assert printed(tmp_path, code) == "True True\nNone\n"


def test_the_counts_are_those_of_blocks(tmp_path: Path) -> None:
    code = """
before = guard.report()["malloc"]
blocks = [libc.malloc(1000) for _ in range(50)]
for block in blocks[:20]:
    libc.free(block)
after = guard.report()["malloc"]
print(after["blocks"] - before["blocks"] >= 50, after["bytes"] - before["bytes"] >= 50000)
print(after["live_blocks"] - before["live_blocks"] >= 30, after["sampled_out"])
"""
    assert printed(tmp_path, code) == "True True\nTrue 0\n"


def test_a_sample_of_the_blocks_is_guarded(tmp_path: Path) -> None:
    code = """
for _ in range(4000):
    libc.free(libc.malloc(500))
counts = guard.report()["malloc"]
print(100 < counts["blocks"] < counts["sampled_out"] / 5)
"""
    assert printed(tmp_path, code, "--sample", "10") == "True\n"


def test_the_program_finds_no_trace_in_its_environment(tmp_path: Path) -> None:
    code = """
print([name for name in os.environ if name.startswith(("LD_", "MEMPROT", "PYTHONPATH"))])
print(subprocess.run(["env"], capture_output=True, text=True).stdout.count("memprot_malloc"))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = tmp_path / "app.py"
    program.write_text(HEADER + code)
    command = [sys.executable, "-m", "memprot", "run", "--guard", "malloc", str(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n0\n"


def test_what_the_user_preloads_stays_and_works(tmp_path: Path) -> None:
    library = tmp_path / "libmine.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", str(library), "-x", "c", "-"],
        input=b"int mine(void) { return 5; }",
        check=True,
    )
    code = 'print(os.environ["LD_PRELOAD"], libc.mine())'
    assert printed(tmp_path, code, env={"LD_PRELOAD": str(library)}) == f"{library} 5\n"


def test_children_of_a_fork_go_on_with_guards(tmp_path: Path) -> None:
    code = """
block = libc.malloc(80)
for _ in range(10):
    if (child := os.fork()) == 0:
        fault = told(lambda: ctypes.memset(block, 1, 81))
        other = libc.malloc(2000)
        libc.free(block)
        os._exit(fault.record.block.nbytes)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 80
print("done")
"""
    assert printed(tmp_path, code) == "done\n"


def test_an_extension_overruns_its_own_block(tmp_path: Path) -> None:
    library = tmp_path / "libheap.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), "-x", "c", "-"],
        check=True,
        input=b"""
#include <stdlib.h>
__attribute__((noinline)) static void fill(char *to, int count) { for (int i = 0; i < count; i++) to[i] = 1; }
int work(int count) { char *volatile block = malloc(count); fill(block, count + 1); free(block); return 7; }
""",
    )
    code = f"""
library = ctypes.PyDLL({str(library)!r})
fault = told(lambda: library.work(128))
block = fault.record.block
print(block.nbytes, fault.native[0].function, block.allocated[0].function, block.allocated_native[0].function)
"""
    assert printed(tmp_path, code) == "128 fill <lambda> work\n"


def test_without_the_library_enable_says_how_to_start_the_program() -> None:
    code = "from memprot import guard\ntry: guard.enable('malloc')\nexcept RuntimeError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("memprot run --guard malloc\n")


def test_a_path_that_the_linker_cannot_read_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("a b.so", "a:b.so"):
        (tmp_path / name).touch()
        monkeypatch.setattr(preload, "LIBRARY", str(tmp_path / name))
        with pytest.raises(preload.CannotPreloadError, match="blank or a colon"):
            preload.environment({})
    monkeypatch.setattr(preload, "LIBRARY", str(tmp_path / "none.so"))
    with pytest.raises(preload.CannotPreloadError, match="install memprot again"):
        preload.environment({})


def test_numpy_and_malloc_are_guarded_together(tmp_path: Path) -> None:
    code = """
import numpy
array = numpy.ones(10)
print(told(lambda: ctypes.memset(array.ctypes.data, 0, 81)).record.block.nbytes, sorted(guard.report()))
"""
    assert printed(tmp_path, code, "--guard", "numpy,malloc") == "80 ['malloc', 'numpy']\n"


def test_what_alignment_leaves_between_block_and_guard_is_looked_at_when_it_is_freed(tmp_path: Path) -> None:
    code = """
block = libc.malloc(20)
ctypes.memset(block, 1, 23)
fault = told(lambda: libc.free(block))
print(fault.record.kind, fault.record.block.nbytes, fault.record.distance)
"""
    assert printed(tmp_path, code) == "slack 20 0\n"


def test_freed_blocks_stay_out_of_reach_and_are_not_freed_twice(tmp_path: Path) -> None:
    code = """
def give_back(block):
    libc.free(block)
    return block

block = give_back(libc.malloc(64))
read, again = told(lambda: ctypes.string_at(block + 8, 8)).record, told(lambda: libc.free(block)).record
print(read.kind, read.block.is_freed, again.kind, again.native[0].library == read.block.freed_native[0].library)
grown = told(lambda: libc.realloc(block, 100)).record
print(grown.kind)
"""
    assert printed(tmp_path, code, "--quarantine", "64MiB") == "use-after-free True double-free True\ndouble-free\n"
