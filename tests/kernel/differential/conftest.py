"""A process with an arena of addresses, for the tests that hold the model against the kernel."""

import platform
from collections.abc import Iterator

import pytest

from memprot import features
from tests.kernel.differential.kernel_side import KernelSide, kernel_side

# The arena's program is for x86-64, and the model is of a kernel that has all of these.
NEEDED = ("mseal", "madv_guard", "mdwe")
MODELLED = platform.machine() == "x86_64" and all(map(features.available, NEEDED))
collect_ignore_glob = [] if MODELLED else ["test_*.py"]


@pytest.fixture(scope="session")
def kernel() -> Iterator[KernelSide]:
    """The kernel's side, in one program for the whole run."""
    with kernel_side() as side:
        yield side
