"""The reporter of a pytest session that dies: as :mod:`memprot.run.crash`, and it names the test that was running."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from memprot.run import stderr

__all__ = ["RunningTest", "main"]

_STDERR = 2


class RunningTest:
    """The name of the test that is running, where a reporter finds it when the process has died.

    The descriptor of standard error is kept as well: pytest puts a file in its place, which dies with the session.

    Raises:
        OSError: there are no descriptors left.

    >>> running = RunningTest()
    >>> running.set("test_app.py::test_all (call)")
    >>> os.pread(running.name_descriptor, 100, 0)
    b'test_app.py::test_all (call)'
    """

    def __init__(self) -> None:
        self.name_descriptor = os.memfd_create("memprot-test")
        # Closed by what the tests execute, so that nothing is left of it in other programs.
        self.stderr_descriptor = os.dup(_STDERR) if stderr.is_open() else -1

    def set(self, name: str) -> None:
        """Say what is running now.

        Args:
            name: of the test, and its phase; empty for none.
        """
        text = name.encode("utf-8", "backslashreplace")
        os.ftruncate(self.name_descriptor, 0)
        os.pwrite(self.name_descriptor, text, 0)

    def reporter(self, policy: str, document: str | None) -> list[bytes]:
        """How a dying process starts its reporter, for ``_native.set_crash_reporter``.

        Args:
            policy: as in :func:`memprot.run.reporter.command`.
            document: as in :func:`memprot.run.reporter.command`.
        """
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); from memprot.run.pytest_crash import main; "
            "main(int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])"
        )
        descriptors = (str(self.name_descriptor), str(self.stderr_descriptor))
        words = (sys.executable, "-I", "-c", code, root, *descriptors, policy, document or "")
        return [os.fsencode(word) for word in words]


def main(name_descriptor: int, stderr_descriptor: int, policy: str, document: str) -> None:
    """Tell of the parent process where people see it, and name the test.

    Args:
        name_descriptor: of the parent process: the test's name.
        stderr_descriptor: of the parent process: its standard error as it was before pytest captured it.
        policy: as in :func:`memprot.run.crash.main`.
        document: as in :func:`memprot.run.crash.main`.

    Raises:
        OSError: the document cannot be written.

    >>> callable(main)
    True
    """
    # The process that reports a test's death needs this one only.
    from memprot.run import crash

    folder = f"/proc/{os.getppid()}/fd"
    # A socket, closed, or no /proc: what there is as standard error has to do.
    with suppress(OSError):
        os.dup2(os.open(f"{folder}/{stderr_descriptor}", os.O_WRONLY | os.O_APPEND), _STDERR)
    try:
        with open(f"{folder}/{name_descriptor}", "rb") as file:
            name = file.read().decode("utf-8", "replace")
    except OSError:
        name = ""  # the test has closed it; the report names its lines all the same
    if name:
        stderr.say(f"\nmemprot: the process dies in {name}\n")
    crash.main(policy, document)
