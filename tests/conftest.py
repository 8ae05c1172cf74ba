"""What the tests share: the module that misbehaves on command, and how long random tests go on."""

import importlib.util
import os
import random
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

# `make fuzz` sets it: random tests then try so much that they take minutes instead of seconds.
FUZZING = os.environ.get("MEMPROT_FUZZ") == "1"

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=100_000)
hypothesis.settings.load_profile("fuzz" if FUZZING else "default")


@pytest.fixture(scope="session")
def misbehave_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the built ``misbehave`` and ``foreign_handlers``: a PYTHONPATH for child programs."""
    folder = tmp_path_factory.mktemp("misbehave")
    include = sysconfig.get_path("include")
    command = ["cc", "-shared", "-fPIC", "-O1", "-g", "-fno-omit-frame-pointer", "-pthread", f"-I{include}"]
    for name in ("misbehave", "foreign_handlers"):
        source = Path(__file__).parent / "native" / f"{name}.c"
        target = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
        subprocess.run([*command, "-o", target, source], check=True)
    return folder


@pytest.fixture
def run_child(misbehave_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
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


@pytest.fixture(scope="session")
def misbehave(misbehave_path: Path) -> ModuleType:
    """The ``misbehave`` module, imported into this process."""
    (file,) = misbehave_path.glob("misbehave*.so")
    specification = importlib.util.spec_from_file_location("misbehave", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fuzzing() -> bool:
    """Whether a random test shall go on for minutes."""
    return FUZZING


@pytest.fixture
def fuzz_seed() -> int:
    """Where a random test begins; a failure is repeated with the same number in MEMPROT_FUZZ_SEED."""
    return int(os.environ.get("MEMPROT_FUZZ_SEED", random.getrandbits(32)))
