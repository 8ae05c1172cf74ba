"""Where memory, address space or mappings run short, guards are given up, counted and explained; programs go on."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memprot import PAGE_SIZE, features

RunChild = Callable[..., subprocess.CompletedProcess[str]]

SETUP = """
import ctypes, resource, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import numpy, misbehave, memprot.guard
from memprot import FaultError, _native, catch_faults
from memprot.run.summary import REFUSALS
def used(what):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(what))
def limit(number, bytes):
    resource.setrlimit(number, (bytes, resource.getrlimit(number)[1]))
def work():
    arrays = [numpy.full(10_000, index) for index in range(1500)]
    return all((array == index).all() for index, array in enumerate(arrays))
def outcome():
    return memprot.guard.report()["numpy"]["unguarded"] > 0, REFUSALS[_native.guard_refusal(0)]
def is_guarded(array):
    address = array.__array_interface__["data"][0] + array.nbytes
    try:
        with catch_faults():
            misbehave.write(address, 1)
    except FaultError as fault:
        return fault.record.kind == "overflow"
    return False
memprot.guard.enable("numpy")
first = numpy.arange(10)
"""


def lines_of(child: subprocess.CompletedProcess[str]) -> list[str]:
    assert child.returncode == 0, (child.returncode, child.stderr)
    return child.stdout.splitlines()


def test_the_limit_of_address_space(run_child: RunChild) -> None:
    child = run_child(f"{SETUP}limit(resource.RLIMIT_AS, used('VmSize') + (400 << 20))\nprint(work(), *outcome())")
    assert lines_of(child) == ["True True the limit of address space (ulimit -v) leaves no room for more"]


def test_the_limit_of_data(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
limit(resource.RLIMIT_DATA, used("VmData") + (400 << 20))
print(work(), *outcome(), is_guarded(first))
""")
    assert lines_of(child) == ["True True the limit of data (ulimit -d) leaves no room for more True"]


def test_locked_memory_takes_no_guards_and_the_program_works(run_child: RunChild) -> None:
    if not features.available("madv_guard"):
        pytest.skip("guards that are protections may be locked")
    child = run_child(f"""{SETUP}
libc = ctypes.CDLL(None, use_errno=True)
FUTURE = 2
if libc.mlockall(FUTURE) != 0:
    print("not permitted")
else:
    locked = used("VmLck")
    arrays = [numpy.full((1 << number) + 7, number, "u1") for number in range(22)]
    print(all((array == number).all() for number, array in enumerate(arrays)), *outcome())
    print(used("VmLck") - locked < 64 << 20)
    libc.munlockall()
    print(is_guarded(first))
""")
    lines = lines_of(child)
    if lines == ["not permitted"]:
        pytest.skip("this process may not lock memory")
    assert lines == ["True True memory is locked (mlockall), and locked pages take no guards", "True", "True"]


def test_the_quarantine_gives_way_where_its_blocks_are_locked(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
memprot.guard.enable("numpy", after_free="1MiB")
libc = ctypes.CDLL(None, use_errno=True)
arrays = [numpy.full(100, number) for number in range(50)]
for array in arrays:
    libc.mlock(ctypes.c_void_p(array.__array_interface__["data"][0]), ctypes.c_size_t(array.nbytes))
print(all((array == number).all() for number, array in enumerate(arrays)))
arrays.clear()
again = [numpy.full(100, number) for number in range(50)]
print(all((array == number).all() for number, array in enumerate(again)))
""")
    assert lines_of(child) == ["True", "True"]


def test_many_freed_blocks_in_quarantine_need_few_mappings(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
memprot.guard.enable("numpy", after_free="64MiB")
def mappings():
    with open("/proc/self/maps") as maps:
        return len(maps.readlines())
before = mappings()
for _ in range(20_000):
    numpy.empty(10)
print(memprot.guard.report()["numpy"]["quarantined"] == 64 << 20, mappings() - before < 1000)
""")
    if features.available("madv_guard"):
        assert lines_of(child) == ["True True"]
    else:
        assert lines_of(child)[0].endswith("False")


def test_the_summary_says_how_many_are_unguarded_and_why(run_child: RunChild, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy, resource\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + (300 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "arrays = [numpy.full(10_000, index) for index in range(1500)]\n"
    )
    child = run_child(
        f"import subprocess, sys; done = subprocess.run([sys.executable, '-m', 'memprot', 'run', {str(script)!r}], "
        "capture_output=True, text=True); print(done.stderr)"
    )
    last = [line for line in lines_of(child) if line][-1]
    assert re.fullmatch(r"memprot: [\d,]+ arrays were left without a guard: the limit of address space .*\.", last)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A group of 256 MiB, where this process may make one."""
    roots = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
    files = {"memory": "memory.limit_in_bytes", "cgroup": "memory.max"}
    for root in roots:
        group = root / f"memprot-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        limit = group / files[root.name]
        try:
            limit.write_text(str(256 << 20))
        except OSError:
            group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("no memory cgroup can be made here")


def test_the_pages_that_guards_cost_stay_below_an_eighth_of_the_cgroups_limit(
    run_child: RunChild, cgroup: Path
) -> None:
    child = run_child(f"""
import os
with open("{cgroup}/cgroup.procs", "w") as group:
    group.write(str(os.getpid()))
{SETUP}
arrays = [numpy.full(1, index) for index in range(20_000)]
print(all(array[0] == index for index, array in enumerate(arrays)), *outcome())
print(memprot.guard.report()["numpy"]["overhead"] <= 32 << 20)
""")
    why = "the pages of guarded blocks held as much beyond them as they may, an eighth of the memory"
    assert lines_of(child) == [f"True True {why}", "True"]


def test_what_is_more_than_the_machine_has_is_refused_or_given_as_without_guards(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
def try_all():
    found = []
    for size in (2 * {os.sysconf("SC_PHYS_PAGES") * PAGE_SIZE}, 1 << 46, (1 << 62) - 1):
        try:
            numpy.empty(size, "u1")
        except (MemoryError, ValueError) as error:
            found.append(type(error).__name__)
    return found
guarded = try_all()
memprot.guard.disable("numpy")
print(try_all() == guarded, is_guarded(first))
memprot.guard.enable("numpy")
print(work(), is_guarded(first))
""")
    assert lines_of(child) == ["True True", "True True"]
