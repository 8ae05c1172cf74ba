"""set_mdwe, get_mdwe, set_name and personality against the running kernel."""

import subprocess
from collections.abc import Callable

import pytest

from memprot import PAGE_SIZE, AddressSpace, calls, features
from memprot.calls import ExecutionDomain, Personality

Answer = Callable[..., str]
RunChild = Callable[..., subprocess.CompletedProcess[str]]

DENIED = """
import errno, os
from memprot import PAGE_SIZE, ProtectionError, calls
from memprot.calls import DenyWriteExecute, MapFlag
def ask(call, *arguments):
    try:
        call(*arguments)
    except ProtectionError as error:
        return errno.errorcode[error.errno]
    return "success"
private = MapFlag.PRIVATE | MapFlag.ANONYMOUS
page = calls.mmap(0, PAGE_SIZE, 3, private)
code = calls.mmap(0, PAGE_SIZE, 5, private)
print(repr(calls.get_mdwe()), ask(calls.set_mdwe, 0))
print(ask(calls.set_mdwe, DenyWriteExecute.NO_INHERIT), ask(calls.set_mdwe, 4))
print(ask(calls.set_mdwe, DenyWriteExecute.REFUSE_EXEC_GAIN), repr(calls.get_mdwe()))
print(ask(calls.mprotect, page, PAGE_SIZE, 5), ask(calls.mmap, 0, PAGE_SIZE, 7, private))
print(ask(calls.mprotect, code, PAGE_SIZE, 5), ask(calls.mprotect, code, PAGE_SIZE, 1))
print(ask(calls.set_mdwe, 0), ask(calls.set_mdwe, DenyWriteExecute.REFUSE_EXEC_GAIN), flush=True)
if os.fork() == 0:
    print(repr(calls.get_mdwe()), flush=True)
    os._exit(0)
os.wait()
"""


def test_denied_memory_does_not_become_executable(run_child: RunChild, answer: Answer) -> None:
    if not features.available("mdwe"):
        assert answer(calls.get_mdwe) == "EINVAL"
        return
    assert run_child(DENIED).stdout.splitlines() == [
        "<DenyWriteExecute: 0> success",
        "EINVAL EINVAL",
        "success <DenyWriteExecute.REFUSE_EXEC_GAIN: 1>",
        "EACCES EACCES",
        "success success",
        "EPERM success",
        "<DenyWriteExecute.REFUSE_EXEC_GAIN: 1>",
    ]


def test_names_are_shown_in_the_maps(pages: int, answer: Answer) -> None:
    if not features.available("anonymous_names"):
        assert answer(calls.set_name, pages, PAGE_SIZE, "named") == "EINVAL"
        return
    calls.set_name(pages, PAGE_SIZE, b"named")
    found = AddressSpace().find(pages)
    assert found is not None
    assert found.path == "[anon:named]"
    calls.set_name(pages, PAGE_SIZE, None)
    found = AddressSpace().find(pages)
    assert found is not None
    assert found.path is None
    assert answer(calls.set_name, pages, 5 * PAGE_SIZE, "named") == "ENOMEM"


@pytest.mark.parametrize(
    ("offset", "length", "name"), [(1, PAGE_SIZE, "x"), (0, -1, "x"), (0, PAGE_SIZE, "x" * 80), (0, PAGE_SIZE, "[x]")]
)
def test_each_refusal_of_set_name(pages: int, answer: Answer, offset: int, length: int, name: str) -> None:
    assert answer(calls.set_name, pages + offset, length, name) == "EINVAL"


READABLE = """
from memprot import PAGE_SIZE, AddressSpace, calls
from memprot.calls import MapFlag, Personality
before = calls.personality()
print(calls.personality(before | Personality.READ_IMPLIES_EXEC) == before)
print(Personality.READ_IMPLIES_EXEC in calls.personality())
page = calls.mmap(0, PAGE_SIZE, 1, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
print(AddressSpace().find(page).prot)
calls.mprotect(page, PAGE_SIZE, 3)
print(AddressSpace().find(page).prot)
calls.personality(before)
calls.mprotect(page, PAGE_SIZE, 3)
print(AddressSpace().find(page).prot)
"""


def test_reading_can_be_made_to_imply_executing(run_child: RunChild) -> None:
    assert run_child(READABLE).stdout.splitlines() == ["True", "True", "r-x", "rwx", "rw-"]


def test_asking_changes_nothing_and_the_kernel_sees_32_bits() -> None:
    before = calls.personality()
    assert isinstance(before, Personality)
    assert calls.personality(0xFFFFFFFF) == calls.personality(7 << 32 | 0xFFFFFFFF) == before
    assert int(before) & ExecutionDomain.MASK in (0, 8)
