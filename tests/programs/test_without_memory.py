"""Where memory or address space runs out, allocations do not fail because of us, and nothing hangs."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner, Watched

pytest.importorskip("numpy")

MIB = 1 << 20

# What is mapped now, and a way to leave the program only a little more.
LIMIT = """
import resource
from pathlib import Path

def mapped():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

def leave(room):
    resource.setrlimit(resource.RLIMIT_AS, (mapped() + room, resource.RLIM_INFINITY))
"""

# Arrays of many sizes: each size has a pool of its own.
ALLOCATE = """
def allocate():
    arrays = [numpy.full(size, 5, dtype="uint8") for size in range(1, 200_000, 2000) for _ in range(3)]
    assert all((array == 5).all() for array in arrays)
    return arrays
"""


@pytest.fixture
def environment(misbehave_path: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(misbehave_path)}


def test_a_limit_that_the_program_sets_itself_leaves_it_its_memory(runner: "Runner") -> None:
    script = runner.script(
        f"import numpy\n{LIMIT}\n{ALLOCATE}\nnumpy.zeros(10)\n"
        f"leave({300 * MIB})\nallocate()\nbig = numpy.ones({200 * MIB // 8})\nprint(big.sum())\n"
    )
    plain = runner.run([sys.executable, script])
    assert plain.status == 0
    done = runner.watch(script)
    assert (done.status, done.stdout.encode()) == (0, plain.stdout), done.stderr
    assert done.document["faults"] == []
    assert "left without a guard: the limit of address space" in done.stderr


def test_a_limit_set_before_the_start_leaves_the_program_its_memory(runner: "Runner") -> None:
    script = runner.script(f"import numpy\n{ALLOCATE}\nallocate()\nprint('ended')\n")
    # OpenBLAS maps memory for each of its threads; one keeps the limit the same everywhere.
    environment = {"OPENBLAS_NUM_THREADS": "1"}
    measure = f"{LIMIT}\nimport numpy\n{ALLOCATE}\nallocate()\nprint(mapped())"
    needed = int(runner.run([sys.executable, "-c", measure], environment=environment).stdout)
    limit = needed + 128 * MIB
    limited = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit})); "
    limited += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    plain = runner.run([sys.executable, "-c", limited, script], environment=environment)
    assert plain.status == 0, plain.stderr
    done = runner.run([sys.executable, "-c", limited, "-m", "memprot", "run", script], environment=environment)
    assert (done.status, done.stdout) == (0, plain.stdout), done.stderr
    assert b"memprot: no faults." in done.stderr


def test_a_program_that_hits_its_limit_gets_the_memory_error_it_would_get(runner: "Runner") -> None:
    script = runner.script(
        f"import numpy\n{LIMIT}\nleave({64 * MIB})\n"
        f"try:\n    numpy.ones({128 * MIB})\nexcept MemoryError:\n    print('MemoryError')\n"
        "print(numpy.ones(9).sum())\n"
    )
    done = runner.both(script)
    assert done.stdout == b"MemoryError\n9.0\n"


def test_a_region_that_has_no_memory_is_an_error_with_its_errno(runner: "Runner") -> None:
    script = runner.script(
        f"{LIMIT}\nfrom memprot import ProtectionError, Region, guarded\nleave({8 * MIB})\n"
        f"for make in (Region, guarded, lambda size: Region(size, shared=True)):\n"
        f"    try:\n        make({1024 * MIB})\n    except ProtectionError as error:\n        print(error.errno)\n"
        "print(Region(4096)[0])\n"
    )
    done = runner.run([sys.executable, script])
    assert (done.status, done.stdout.split()) == (0, [b"12", b"12", b"12", b"0"]), done.stderr


# Nothing can be mapped any more when the fault comes.
STARVED = """
import numpy, sys
import misbehave
from memprot import Region
{limit}
array = numpy.zeros(100)
region = Region({size}, shared={shared})
view = memoryview(region)
region.protect("{prot}")
misbehave.read(array.ctypes.data)
spare = [bytes(1000) for _ in range(4000)]
spare = spare[-1]  # what lies below it in the heap is free: Python itself goes on for a while
resource.setrlimit(resource.RLIMIT_AS, (4096, resource.RLIM_INFINITY))
{breach}
print("went on")
"""


def starved(runner: "Runner", environment: dict[str, str], breach: str, **region: object) -> "Watched":
    settings = {"size": 4096, "shared": False, "prot": "r--", **region}
    text = STARVED.format(limit=LIMIT, breach=breach, **settings)
    return runner.watch(runner.script(text), options=["--on-fault", "log"], environment=environment)


@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
@pytest.mark.parametrize("prot", ["r--", "---"])
def test_a_fault_that_cannot_be_recovered_for_want_of_memory_is_told_and_deadly(
    runner: "Runner", environment: dict[str, str], shared: bool, prot: str
) -> None:
    done = starved(runner, environment, "misbehave.write(region.address, 1)", shared=shared, prot=prot)
    if done.status == 0:  # this kernel needs no new memory for it
        assert done.fault["recovered"]
        return
    assert done.status == -signal.SIGSEGV
    assert done.stdout == ""
    assert (done.fault["kind"], done.fault["access"], done.fault["recovered"]) == ("protection", "write", False)
    assert "write of 1 byte" in done.stderr
    assert "registers" in done.stderr


def test_a_guard_needs_no_memory_to_be_opened(runner: "Runner", environment: dict[str, str]) -> None:
    # Afterwards Python itself needs a little to tell it.
    done = starved(runner, environment, f"misbehave.write(array.ctypes.data + 800, 1)\nleave({8 * MIB})")
    assert (done.status, done.stdout) == (0, "went on\n")
    assert done.fault["recovered"] is True
    assert done.fault["distance"] == 0


def test_a_death_is_told_without_memory(runner: "Runner", environment: dict[str, str]) -> None:
    done = starved(runner, environment, "misbehave.null_write()")
    assert done.status == -signal.SIGSEGV
    assert (done.fault["kind"], done.document["exit"]) == ("unmapped", -signal.SIGSEGV)


@pytest.mark.parametrize("breach", ["misbehave.null_write()", "misbehave.write(region.address, 1)"])
def test_where_not_even_a_reporter_can_start_a_death_is_a_line_on_standard_error(
    runner: "Runner", environment: dict[str, str], breach: str
) -> None:
    text = STARVED.format(limit=LIMIT, breach=breach, size=4096, shared=True, prot="r--")
    done = runner.watch(
        runner.script(text.replace("resource.RLIM_INFINITY))\n" + breach, "4096))\n" + breach)), environment=environment
    )
    assert (done.status, done.document["exit"]) == (-signal.SIGSEGV, -signal.SIGSEGV)
    assert done.stderr.startswith("memprot: fatal write of 1 byte at 0x")
    assert 'app.py", line' in done.stderr


def test_more_faults_than_there_are_records_are_all_blocked(runner: "Runner", environment: dict[str, str]) -> None:
    text = (
        "import ctypes, numpy, misbehave\n"
        "from memprot import Region\n"
        "region = Region(4096 * 40000)\n"
        "region.protect('r--')\n"
        # Every second page: a fault of its own each time.
        "misbehave.hammer(region.address, 8192, 20000, False)\n"
        "print(region[:] == bytes(len(region)))\n"
    )
    done = runner.watch(runner.script(text), options=["--on-fault", "log"], environment=environment)
    assert (done.status, done.stdout) == (0, "True\n"), done.stderr
    assert sum(fault["count"] for fault in done.document["faults"]) > 0
    assert all(fault["recovered"] for fault in done.document["faults"])
