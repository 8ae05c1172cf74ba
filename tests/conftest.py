"""What the tests share: the module that misbehaves on command."""

import importlib.util
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def misbehave_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the built ``misbehave`` extension: a PYTHONPATH for child programs."""
    folder = tmp_path_factory.mktemp("misbehave")
    source = Path(__file__).parent / "native" / "misbehave.c"
    target = folder / f"misbehave{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = sysconfig.get_path("include")
    command = ["cc", "-shared", "-fPIC", "-O1", "-g", "-fno-omit-frame-pointer", "-pthread", f"-I{include}"]
    subprocess.run([*command, "-o", target, source], check=True)
    return folder


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
