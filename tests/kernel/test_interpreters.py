"""Interpreters beside the main one: memprot works in the main one, and answers for memory that any of them touches."""

import subprocess
from collections.abc import Callable

import pytest

RunChild = Callable[..., subprocess.CompletedProcess[str]]

SETUP = """
import os, sys, threading
import misbehave
from memprot import PAGE_SIZE, FaultError, Region, catch_faults

if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    def create(isolated):
        return interpreters.create("isolated" if isolated else "legacy")
    run = interpreters.run_string
else:
    import _xxsubinterpreters as interpreters
    def create(isolated):
        return interpreters.create(isolated=isolated)
    run = interpreters.run_string

PATH = f"import sys; sys.path[:] = {sys.path!r}\\n"

def raises(region, **how):
    try:
        with catch_faults():
            misbehave.write(region.address, 1, **how)
    except FaultError as fault:
        return fault.offset == 0 and region.read(0, 1) == b"\\0"
    return False
"""


def lines_of(child: subprocess.CompletedProcess[str]) -> list[str]:
    assert child.returncode == 0, (child.returncode, child.stderr)
    return child.stdout.splitlines()


@pytest.fixture(params=[False, True], ids=["legacy", "isolated"])
def isolated(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_importing_memprot_in_another_interpreter_is_refused_in_words(run_child: RunChild, isolated: bool) -> None:
    child = run_child(f"""{SETUP}
other = create({isolated})
run(other, PATH + '''
import os
try:
    import memprot
except ImportError as error:
    os.write(1, str(error).encode() + b' ')
''')
interpreters.destroy(other)
region = Region(PAGE_SIZE, "r--")
print(raises(region), raises(region, gil=False))
""")
    (line,) = lines_of(child)
    assert "memprot works in the main interpreter only" in line
    assert line.endswith("True True")


@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
def test_a_fault_in_another_interpreter_is_raised_where_it_was_started(
    run_child: RunChild, isolated: bool, gil: bool, shared: bool
) -> None:
    child = run_child(f"""{SETUP}
region = Region(PAGE_SIZE, "r--", shared={shared})
other = create({isolated})
def start():
    said = "unraised"
    try:
        with catch_faults() as scope:
            try:
                run(other, PATH + f"import misbehave, os; misbehave.write({{region.address}}, 1, gil={gil}); "
                                  f"[None for _ in range(10**5)]; os.write(1, b'went on ')")
                for _ in range(10**5):
                    pass
            except FaultError:
                said = "raised"
                raise
    except FaultError as fault:
        print(said, fault.offset, fault.region is region, fault.thread.id == threading.get_native_id(), fault.others,
              flush=True)
    print(region.read(0, 1), raises(region), raises(region, gil=False), flush=True)
start()
thread = threading.Thread(target=start)
thread.start()
thread.join()
interpreters.destroy(other)
print(raises(region), raises(region, gil=False), flush=True)
""")
    told = [r"went on raised 0 True True ()", r"b'\x00' True True"]
    assert lines_of(child) == [*told, *told, "True True"]


def test_a_thread_of_another_interpreter_is_one_without_python(run_child: RunChild) -> None:
    """Its faults are everyone's: raised where the scope ends."""
    child = run_child(f"""{SETUP}
region = Region(PAGE_SIZE, "r--")
other = create(False)
try:
    with catch_faults() as scope:
        run(other, PATH + f'''
import misbehave, os, threading
def work():
    misbehave.write({{region.address}}, 1, gil=False)
    os.write(1, b"went on ")
thread = threading.Thread(target=work)
thread.start()
thread.join()
''')
except FaultError as fault:
    print(fault.offset, fault.thread.id != threading.get_native_id(), fault.others, flush=True)
interpreters.destroy(other)
print(raises(region), raises(region, gil=False), flush=True)
""")
    assert lines_of(child) == ["went on 0 True ()", "True True"]


def test_faults_are_raised_in_each_thread_after_another_interpreter_existed(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
region = Region(PAGE_SIZE, "r--")
interpreters.destroy(create(False))
def work():
    print(*[raises(region, gil=gil) for gil in (True, False, True, False)], flush=True)
work()
for _ in range(2):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
""")
    assert lines_of(child) == ["True True True True"] * 3
