"""Runs seeded functions: ``python -m tests.seeded.program FOLDER NAME...``; the code lies built in FOLDER."""

import ctypes
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from tests.seeded import BUGS


def load(code: str, folder: Path) -> Any:
    """What has the functions of a file of ``code``."""
    path = Path(code)
    if path.suffix == ".py":
        os.environ["NUMBA_CACHE_DIR"] = str(folder)  # compiled once
        return importlib.import_module(f"tests.seeded.code.{path.stem}")
    if path.suffix == ".pyx":
        sys.path.insert(0, str(folder))
        return importlib.import_module(path.stem)
    return ctypes.CDLL(str(folder / f"{path.stem}.so"))


def main() -> None:
    folder, *names = sys.argv[1:]
    for name in names:
        BUGS[name].call(load(BUGS[name].code, Path(folder)))


if __name__ == "__main__":
    main()
