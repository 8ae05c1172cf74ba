"""Memory to misbehave on, and child programs to misbehave in."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memprot import PAGE_SIZE, Region

PAGES = 64
PATTERN = bytes(range(1, 252)) * (PAGES * PAGE_SIZE // 251 + 1)

Content = Callable[[Region], bytes]
RunChild = Callable[..., subprocess.CompletedProcess[str]]


def read_content(region: Region) -> bytes:
    """What a region's pages hold, whatever their protection."""
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(region.address)
        data = memory.read(region.size)
    assert data is not None
    return data


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Where it meets a fault by chance, its callbacks take the exception and only the scope's end raises it."""
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    gc.disable()
    yield
    gc.enable()
    gc.callbacks[:] = callbacks


@pytest.fixture
def content() -> Content:
    return read_content


@pytest.fixture(params=[False, True], ids=["private", "shared"])
def shared(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=["r--", "---"])
def prot(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def blocked(shared: bool, prot: str) -> Iterator[Region]:
    """A Region that may not be written; after the test its bytes and its protection are as before."""
    region = Region(PAGES * PAGE_SIZE, shared=shared)
    before = PATTERN[: region.size]
    region[:] = before
    region.protect(prot)
    yield region
    assert read_content(region) == before
    assert str(region.prot) == prot
    assert [str(mapping.prot) for mapping in region.mappings] == [prot] * len(region.mappings)
    region.close()


@pytest.fixture
def run_child(misbehave_path: Path) -> RunChild:
    """Run Python code, or a file, in a fresh process; ``misbehave`` can be imported there."""

    def run(
        code: str | Path, *arguments: str, python: tuple[str, ...] = (), timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        program = [str(code)] if isinstance(code, Path) else ["-c", code]
        environment = {**os.environ, "PYTHONPATH": str(misbehave_path)}
        return subprocess.run(
            [sys.executable, *python, *program, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
