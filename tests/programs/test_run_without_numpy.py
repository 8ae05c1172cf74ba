"""Where NumPy is absent everything but the guarding of its arrays works."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

WITHOUT_NUMPY = """
import sys

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "numpy" or name.startswith("numpy."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent)
"""

LIBRARY = """
import ctypes
import memprot, memprot.calls, memprot.features, memprot.guard
from memprot import AddressSpace, FaultError, Region, catch_faults, guarded

with Region(4096, shared=True) as region:
    region.protect("r--")
    try:
        region[0] = 1
    except FaultError as fault:
        print(fault.cause)
block = guarded(13)
try:
    with catch_faults():
        ctypes.memset(block.address, 1, 14)
except FaultError as fault:
    print(fault.cause, fault.offset)
print(AddressSpace().find(block.address).prot)
try:
    memprot.guard.enable("numpy")
except ModuleNotFoundError as error:
    print(error)
memprot.guard.disable("numpy")
print(memprot.guard.report()["numpy"]["arrays"])
print("numpy" in sys.modules)
"""

FAULT = """
import ctypes
from memprot import guarded
block = guarded(13)
ctypes.memset(block.address, 1, 14)
"""


def test_the_library_works_and_says_what_is_missing(runner: "Runner") -> None:
    done = runner.run([sys.executable, runner.script(WITHOUT_NUMPY + LIBRARY)])
    assert (done.status, done.stderr) == (0, b"")
    *lines, error, arrays, imported = done.stdout.decode().splitlines()
    assert lines == ["protection", "guard 13", "rw-"]
    assert "NumPy" in error
    assert "install" in error
    assert (arrays, imported) == ("0", "False")


def test_a_program_runs_and_its_faults_are_told(runner: "Runner") -> None:
    done = runner.watch(runner.script(WITHOUT_NUMPY + FAULT), options=["--on-fault", "log"])
    assert done.status == 0
    assert (done.fault["kind"], done.fault["object"]["nbytes"]) == ("overflow", 13)
    assert done.stderr.splitlines()[-1] == "memprot: 1 fault. No NumPy array was guarded: there was none."
    assert done.document["guarded"] == {"numpy": {"arrays": 0, "bytes": 0}}
