"""The programs of examples/seeds print what they are there to show."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "seeds"
PRINTED = {
    "read_only_page.py": """\
rw-  Written while the page was open.
r--  Written while the page was open.
FaultError: a write at byte 0, cause: protection
r--  Written while the page was open.
""",
    "machine_code.py": """\
rw-  mapped
rw-  the code is written
r-x  it can be run, and no longer be changed
the function returns 42
""",
    "recover.py": """\
apple: stored
banana: write refused, cause: protection
cherry: stored
date: write refused, cause: protection
banana: stored, now that the page is open
date: stored, now that the page is open
apple banana cherry date
""",
    "guard_page.py": """\
two pages, 100 bytes wanted, the second page closed: rw- ---
the buffer: nothing noticed
one byte more: nothing noticed
the whole page: nothing noticed
one byte into the guard page: write stopped, protection
guarded(100):
the buffer: nothing noticed
one byte more: write stopped, guard
the buffer holds 100 bytes of A
""",
    "four_pages.py": """\
protections from bottom to top: rw- r-- rw-
upward: pages written: 2; stopped at the first byte of page 3
downward: pages written: 1; stopped at the last byte of page 3
""",
    "shared_memory.py": """\
writer (rw-): wrote hello
reader (rw-): read hello
reader (r--): FaultError, a write is forbidden here
writer (rw-): wrote again
reader (r--): read again
""",
}
HEAP = """\
the break has moved up by 16 pages
the new memory lies in the mapping [heap], rw-: True
it is all zeros: True
it can be written: True
"""
# malloc is free to move the break at any time.
HEAP_ENDS = {
    "given back, and the break is where it was: True\n",
    "not given back: malloc has moved the break as well\n",
}
LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-])([sp]) ([0-9a-f]+) (\w+:\w+) (\d+) *(.*)")


def run(name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(FOLDER / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", PRINTED)
def test_the_program_prints_what_it_shows(name: str) -> None:
    done = run(name)
    assert (done.returncode, done.stdout, done.stderr) == (0, PRINTED[name], "")


def test_the_heap_grows_and_shrinks() -> None:
    done = run("heap.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(HEAP)
    assert done.stdout.removeprefix(HEAP) in HEAP_ENDS


def test_no_shared_memory_is_left_behind() -> None:
    before = set(os.listdir("/dev/shm"))
    assert run("shared_memory.py").returncode == 0
    left = set(os.listdir("/dev/shm")) - before
    assert not [name for name in left if name.startswith("memprot-example")]


def test_a_write_that_nobody_catches_is_reported_and_the_process_dies_of_it() -> None:
    done = run("read_only_page.py", "--die")
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout.splitlines()[-1] == "writing, with nobody to catch it"
    assert "fatal write" in done.stderr
    assert "read_only_page.py" in done.stderr


def assert_lines_are_explained(text: str) -> int:
    """Each line of the kernel, then its explanation, which agrees with it; how many there were."""
    raw, explained = text.splitlines()[::2], text.splitlines()[1::2]
    for line, explanation in zip(raw, explained, strict=True):
        matched = LINE.fullmatch(line)
        assert matched is not None, line
        start, stop, permissions, sharing, offset, _, inode, path = matched.groups()
        assert explanation.startswith(f"    {(int(stop, 16) - int(start, 16)) // 1024} KiB, may ")
        for letter, verb in zip("rwx", ("read", "written", "run"), strict=True):
            assert (letter in permissions) == (re.search(rf"may [^;]*\b{verb}\b", explanation) is not None)
        assert (sharing == "s") == ("shared with all" in explanation)
        if inode != "0":
            name = os.path.basename(path.removesuffix(" (deleted)"))
            assert f"{name} from byte {int(offset, 16):#x} on" in explanation
            assert path.endswith(" (deleted)") == explanation.endswith(", a file without a name")
    return len(raw)


def test_every_line_of_a_maps_file_is_explained() -> None:
    done = run("read_maps.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert assert_lines_are_explained(done.stdout) > 10
    for what in ("cat from byte", "libc.so", "the heap", "the stack", "system calls that need not"):
        assert what in done.stdout


def test_the_maps_file_of_any_process_is_explained() -> None:
    done = run("read_maps.py", str(os.getpid()))
    assert (done.returncode, done.stderr) == (0, "")
    assert assert_lines_are_explained(done.stdout) > 10
    assert f"{os.path.basename(os.path.realpath(sys.executable))} from byte" in done.stdout


def test_every_program_is_in_the_table_and_says_what_it_shows() -> None:
    programs = {path.name: path.read_text() for path in FOLDER.glob("*.py")}
    table = (FOLDER / "README.md").read_text()
    assert set(re.findall(r"^\| `(\w+\.py)` \|", table, re.MULTILINE)) == set(programs)
    for name, text in programs.items():
        assert text.startswith('"""'), f"{name} does not say what it shows"
