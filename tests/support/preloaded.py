"""Programs that run with the library in front of malloc, beside the same programs without."""

import os
import subprocess
from pathlib import Path

from memprot.run import preload

SOURCES = Path(__file__).parent.parent / "native"


def built(folder: Path, source: str, *options: str) -> str:
    """A program from a file of tests/native."""
    target = folder / Path(source).stem
    compiler = "c++" if source.endswith(".cpp") else "cc"
    command = [compiler, "-O1", "-fno-builtin", "-pthread", "-o", str(target), str(SOURCES / source), *options, "-ldl"]
    subprocess.run(command, check=True)
    return str(target)


def guarded(words: str | None = "", **more: str) -> dict[str, str]:
    """The environment in which malloc is guarded from the start; None for as ``memprot run`` starts Python."""
    environment = preload.environment({**os.environ, **more})
    return environment if words is None else {**environment, preload.WORDS: words}


def run(
    *command: str, environment: dict[str, str] | None = None, given: bytes = b"", folder: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """What became of it."""
    return subprocess.run(
        command, env=environment, capture_output=True, input=given, check=False, timeout=120, cwd=folder
    )
