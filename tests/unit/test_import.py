"""Where memprot cannot work, importing it says so in one sentence."""

import shutil
import subprocess
import sys
from pathlib import Path

import memprot

PACKAGE = Path(memprot.__file__).parent


def import_error(program: str, *path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(map(str, path))},
    )
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def copy_without_extension(folder: Path) -> Path:
    shutil.copytree(PACKAGE, folder / "memprot", ignore=shutil.ignore_patterns("_native*.so", "__pycache__"))
    return folder


def test_on_another_system_the_import_error_names_it() -> None:
    sentence = import_error("import sys; sys.platform = 'plan9'; import memprot", PACKAGE.parent)
    assert sentence.startswith("ImportError: memprot needs Linux, and this is plan9: ")


def test_without_its_extension_the_import_error_says_what_to_do(tmp_path: Path) -> None:
    sentence = import_error("import memprot", copy_without_extension(tmp_path))
    assert sentence.startswith("ImportError: memprot's C extension cannot be loaded by Python ")
    assert "-m pip install memprot`" in sentence


def test_with_an_extension_that_is_no_library_the_import_error_says_why(tmp_path: Path) -> None:
    copy_without_extension(tmp_path)
    suffix = next(PACKAGE.glob("_native*.so")).name
    (tmp_path / "memprot" / suffix).write_bytes(b"not a library")
    sentence = import_error("import memprot", tmp_path)
    assert "file too short" in sentence or "invalid ELF header" in sentence
    assert "-m pip install memprot`" in sentence
