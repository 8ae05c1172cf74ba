"""Builds the functions: with their bugs, without them, or with their bugs and AddressSanitizer."""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

CODE = Path(__file__).parent / "code"
# As written: no loop becomes a call of memset or a vector, and no pair of malloc and free is taken out.
FLAGS = ("-shared", "-fPIC", "-O1", "-g", "-w", "-fno-builtin-malloc", "-fno-builtin-free", "-pthread", f"-I{CODE}")


def needed(code: str) -> str | None:
    """What is missing for a file of ``code`` to be built; None when nothing is."""
    suffix = Path(code).suffix
    if suffix == ".cpp":
        return None if shutil.which("c++") else "a C++ compiler"
    module = {".pyx": "Cython", ".py": "numba"}.get(suffix)
    return None if module is None or find_spec(module) else f"{module}; make neighbours installs it"


def build(folder: Path, *flags: str) -> Path:
    """Everything that can be built here, for `tests.seeded.program`.

    Args:
        folder: where; it is made.
        flags: further ones for the compiler: ``-DCORRECT`` or ``-fsanitize=address``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in sorted(CODE.iterdir()):
        if source.suffix not in (".c", ".cpp", ".pyx") or needed(source.name):
            continue
        if source.suffix == ".pyx":
            _compile(
                _translated(source, folder),
                folder / f"{source.stem}{sysconfig.get_config_var('EXT_SUFFIX')}",
                [f"-I{sysconfig.get_path('include')}", "-fopenmp", *flags],
            )
        else:
            _compile(source, folder / f"{source.stem}.so", flags)
    return folder


def _translated(source: Path, folder: Path) -> Path:
    target = folder / f"{source.stem}.c"
    subprocess.run([sys.executable, "-m", "cython", "-o", target, source], check=True)
    return target


def _compile(source: Path, target: Path, flags: Sequence[str]) -> None:
    compiler = "c++" if source.suffix == ".cpp" else "cc"
    subprocess.run([compiler, *FLAGS, *flags, "-o", target, source], check=True)


def address_sanitizer() -> str | None:
    """The library that a program must be started with; None where the compiler has none."""
    path = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    return path.strip() if "/" in path else None
