"""A process with an arena of addresses, for the tests that hold the model against the kernel."""

import platform
from collections.abc import Iterator

import pytest

from tests.kernel.differential.kernel_side import KernelSide, kernel_side

collect_ignore_glob = [] if platform.machine() == "x86_64" else ["test_*.py"]  # the arena's program is for x86-64


@pytest.fixture(scope="session")
def kernel() -> Iterator[KernelSide]:
    """The kernel's side, in one program for the whole run."""
    with kernel_side() as side:
        yield side
