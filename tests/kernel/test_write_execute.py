"""Denying the process memory that becomes executable: for good, hence in child programs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from child import REFUSED, lines

from memprot import deny_write_execute, features, write_execute_denied

if TYPE_CHECKING:
    from subprocess import CompletedProcess

RunChild = Callable[..., "CompletedProcess[str]"]

needs_mdwe = pytest.mark.skipif(not features.available("mdwe"), reason="this kernel has no PR_SET_MDWE")

HEAD = (
    """
import os, mmap, ctypes
from memprot import *
from memprot import calls
"""
    + REFUSED
)


@pytest.mark.parametrize("inherit", [1, 0, None, "yes", 1.0])
def test_what_is_no_bool_changes_nothing(inherit: Any) -> None:
    with pytest.raises(TypeError, match="bool"):
        deny_write_execute(inherit)
    assert write_execute_denied() is False


@needs_mdwe
def test_memory_never_becomes_executable_any_more(run_child: RunChild) -> None:
    done = run_child(
        HEAD
        + """
before = Region(4096, "r-x")
print(write_execute_denied())
deny_write_execute()
print(write_execute_denied())
region = Region(4096)
print(refused(lambda: region.protect("r-x")))
print(refused(lambda: region.protect("rwx")))
print(refused(lambda: Region(4096, "rwx")))
memory = mmap.mmap(-1, 4096)
print(refused(lambda: protect(memory, "r-x")))
print(refused(lambda: protected(memory, "r-x").__enter__()))
Region(4096, "r-x").close()
before.protect("r-x")
print(refused(lambda: before.protect("rwx")))
print(str(region.prot), str(before.prot), AddressSpace().find(region.address).prot)
"""
    )
    denied = "(13, 'deny_write_execute')"
    assert lines(done) == ["False", "True", *[denied] * 6, "rw- r-x rw-"]


@needs_mdwe
def test_memprot_itself_goes_on_under_it(run_child: RunChild) -> None:
    done = run_child(
        HEAD
        + """
deny_write_execute()
private = mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE)
for memory in (mmap.mmap(-1, 8192), private, Region(8192), Region(8192, shared=True)):
    view = memoryview(memory)
    with protected(memory, "---"):
        try:
            with catch_faults():
                view[5000] = 1
        except FaultError as fault:
            print(fault.offset, fault.access)
    print(view[5000])
block = guarded(10)
try:
    with catch_faults():
        ctypes.memset(block.address, 1, 11)
except FaultError as fault:
    print(fault.cause, fault.offset)
"""
    )
    assert lines(done) == ["5000 write", "0"] * 4 + ["guard 10"]


@needs_mdwe
def test_it_is_reported_when_the_process_dies_under_it(run_child: RunChild) -> None:
    done = run_child(
        HEAD + "deny_write_execute()\nmemory = mmap.mmap(-1, 4096)\nprotect(memory, 'r--')\nmemory[5] = 1\n"
    )
    assert done.returncode == -11
    assert "write" in done.stderr


@needs_mdwe
@pytest.mark.parametrize("inherit", [True, False])
def test_children_inherit_it_or_not(run_child: RunChild, inherit: bool) -> None:
    done = run_child(
        HEAD
        + f"""
deny_write_execute(inherit={inherit})
child = os.fork()
if child == 0:
    ok = write_execute_denied() == {inherit} and (refused(lambda: Region(4096).protect("r-x")) is None) != {inherit}
    os._exit(0 if ok else 1)
print(os.waitpid(child, 0)[1], write_execute_denied())
"""
    )
    assert lines(done) == ["0 True"]


@needs_mdwe
@pytest.mark.parametrize("inherit", [True, False])
def test_asking_again_is_allowed_and_changing_ones_mind_is_not(run_child: RunChild, inherit: bool) -> None:
    done = run_child(
        HEAD
        + f"""
deny_write_execute(inherit={inherit})
deny_write_execute(inherit={inherit})
try:
    deny_write_execute(inherit={not inherit})
except PermissionError as error:
    print(error.errno, error.reason.value, "nobody change" in str(error))
print(write_execute_denied())
"""
    )
    assert lines(done) == ["1 deny_write_execute True", "True"]


@needs_mdwe
def test_executable_memory_cannot_get_its_protection_back_and_that_is_said(run_child: RunChild) -> None:
    done = run_child(
        HEAD
        + """
memory = mmap.mmap(-1, 4096)
protect(memory, "r-x")
deny_write_execute()
def block():
    with protected(memory, "r--"):
        pass
print(refused(block))
"""
    )
    assert lines(done) == ["(13, 'deny_write_execute')"]
