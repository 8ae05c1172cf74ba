"""Child programs, run by plain Python and under ``memprot run``, and compared from outside."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

MEMPROT_RUN = (sys.executable, "-m", "memprot", "run", "--quiet")
# faulthandler's number of a thread is an address, another one in every process.
THREAD = re.compile(rb"[Tt]hread 0x[0-9a-f]+")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


class Outcome(NamedTuple):
    status: int
    stdout: bytes
    stderr: bytes


class Watched(NamedTuple):
    """What ``memprot run --json`` left behind."""

    status: int
    stdout: str
    stderr: str
    document: Any

    @property
    def fault(self) -> Any:
        """The only fault of the document."""
        (fault,) = self.document["faults"]
        return fault


Interaction = Callable[["subprocess.Popen[bytes]"], object]


class Runner:
    """Runs command lines in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        interact: Interaction | None = None,
        timeout: float = 60,
    ) -> Outcome:
        child = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**ENVIRONMENT, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with child:
            if interact is not None:
                interact(child)
            stdout, stderr = child.communicate(stdin, timeout=timeout)
        return Outcome(child.returncode, stdout, THREAD.sub(b"Thread", stderr))

    def both(
        self,
        *program: str,
        flags: Sequence[str] = (),
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        interact: Interaction | None = None,
    ) -> Outcome:
        """What plain Python makes of a program, after a check that memprot makes the same of it."""
        python, *rest = MEMPROT_RUN
        plain, guarded = (
            self.run(command, stdin=stdin, environment=environment, interact=interact)
            for command in (
                (sys.executable, *flags, *program),
                (python, *flags, *rest, *program),
            )
        )
        assert guarded == plain
        return plain

    def watch(
        self,
        *program: str,
        options: Sequence[str] = (),
        flags: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        interact: Interaction | None = None,
    ) -> Watched:
        """What a program and its report become under ``memprot run``."""
        path = self.folder / "report.json"
        path.unlink(missing_ok=True)
        command = [sys.executable, *flags, "-m", "memprot", "run", "--json", path.name, *options, *program]
        done = self.run(command, environment=environment, interact=interact)
        return Watched(done.status, done.stdout.decode(), done.stderr.decode(), json.loads(path.read_text()))

    @staticmethod
    def signal_when_ready(number: int) -> Interaction:
        """Sends a signal once the program has said ready and sleeps."""

        def interact(child: "subprocess.Popen[bytes]") -> None:
            assert child.stdout is not None
            assert child.stdout.read(6) == b"ready\n"
            while b") S " not in Path(f"/proc/{child.pid}/stat").read_bytes():
                time.sleep(0.01)
            child.send_signal(number)

        return interact

    def script(self, text: str, name: str = "app.py") -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return name


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.fixture
def run_pytest(
    pytester: pytest.Pytester, misbehave_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., pytest.RunResult]:
    """Run pytest on a file of tests in a process of its own; for files that load the plugin ``pytester``."""
    monkeypatch.setenv("PYTHONPATH", str(misbehave_path))
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n")

    def run(code: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_suite=code)
        return pytester.runpytest_subprocess(*arguments, timeout=120)

    return run
