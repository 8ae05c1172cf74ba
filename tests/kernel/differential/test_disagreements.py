"""What the model once got wrong, each as the shortest sequence that showed it (``docs/model-disagreements.md``)."""

import pytest

from memprot import features
from tests.kernel.differential.comparison import compare
from tests.kernel.differential.kernel_side import KernelSide
from tests.kernel.differential.operations import WORLDS, Operation, at

WORLD = {world.name: world for world in WORLDS}
PRIVATE, SHARED, ANONYMOUS = 0x12, 0x11, 0x32  # all at a fixed address
DONTNEED, GUARD_INSTALL = 4, 102
PAGE = 4096
KEYS = features.available("protection_keys")


def call(name: str, *arguments: int | str) -> Operation:
    return Operation(name, arguments)


DISAGREEMENTS = {
    "a sealed private file mapping may be discarded": (
        "plain",
        call("mmap", at(1), 8 * PAGE, 0, PRIVATE, "read_only", PAGE),
        call("mseal", at(3), 3 * PAGE, 0),
        call("madvise", at(3), 3 * PAGE, DONTNEED),
        call("madvise", at(3), PAGE, GUARD_INSTALL),
    ),
    "guards in a private file mapping do not keep it from merging": (
        "plain",
        call("mmap", at(3), 15 * PAGE, 1, PRIVATE, "writable", 0),
        call("mprotect", at(5), PAGE, 3),
        call("madvise", at(13), PAGE, GUARD_INSTALL),
        call("madvise", at(5), PAGE, GUARD_INSTALL),
        call("mprotect", at(5), 2 * PAGE, 3),
    ),
    "guards in private memory do keep it from merging": (
        "plain",
        call("mmap", at(3), 15 * PAGE, 1, ANONYMOUS, -1, 0),
        call("mprotect", at(5), PAGE, 3),
        call("madvise", at(13), PAGE, GUARD_INSTALL),
        call("madvise", at(5), PAGE, GUARD_INSTALL),
        call("mprotect", at(5), 2 * PAGE, 3),
    ),
    "a moved mapping may merge with the rest of where it came from": (
        "plain",
        call("mmap", at(8), 7 * PAGE, 3, ANONYMOUS, -1, 0),
        call("mremap", at(10), 2 * PAGE, 2 * PAGE, 7, at(7)),
    ),
    "shrinking by more than the address space is refused": (
        "plain",
        call("mmap", at(19), 8 * PAGE, 0, PRIVATE, "writable", 0),
        call("mremap", at(24), (1 << 64) - PAGE, PAGE, 0, 0),
    ),
    "moving onto itself from an old length that wraps has lost its source": (
        "plain",
        call("mmap", at(0), 12 * PAGE, 3, PRIVATE, "writable", 0),
        call("mremap", at(2), (1 << 64) - PAGE, PAGE, 3, at(2)),
    ),
    "without protection keys the second pkey_alloc fails in another way than the first": (
        "plain",
        call("pkey_alloc", 0, 0),
        call("pkey_alloc", 0, 0),
        call("pkey_alloc", 0, 4),
    ),
    "the key of memory that can only be executed is taken with its rights reset": (
        "plain",
        *[call("rights", 1, 3, 0)] * KEYS,
        call("mmap", at(1), PAGE, 4, ANONYMOUS, -1, 0),
        call("access", at(1), "execute", 0),
        call("access", at(1), "read", 0),
        *[call("rights", 1, 0, 0)] * KEYS,
    ),
    "the heap does not merge with what ends where it begins": (
        "heap",
        call("mmap", at(0), 12 * PAGE, 3, ANONYMOUS, -1, 0),
        call("brk", at(13)),
        call("brk", at(15)),
    ),
    "a private write beyond the end of the file leaves its trace before it fails": (
        "plain",
        call("mmap", at(1), 11 * PAGE, 3, PRIVATE, "writable", 8 * PAGE),
        call("mprotect", at(9), PAGE, 1),
        call("probe", "write", 0),
        call("mprotect", at(9), PAGE, 3),
    ),
}


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_the_model_and_the_kernel_agree_where_they_once_did_not(kernel: KernelSide, name: str) -> None:
    world, *operations = DISAGREEMENTS[name]
    assert isinstance(world, str)
    compare(kernel, WORLD[world], [operation for operation in operations if isinstance(operation, Operation)])
