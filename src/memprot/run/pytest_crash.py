"""The reporter of a pytest session that dies: as :mod:`memprot.run.crash`, and it names the test that was running."""

from __future__ import annotations

import os
import sys

from memprot.run import stderr

__all__ = ["RunningTest", "main"]

_STDERR = 2


class RunningTest:
    """The name of the test that is running, where a reporter finds it when the process has died.

    Attributes:
        stderr_descriptor: standard error as it is now; pytest puts a file in its place, which dies with the session.

    Raises:
        OSError: there are no descriptors left.

    >>> running = RunningTest()
    >>> running.set("test_app.py::test_all (call)")
    >>> os.pread(running.name_descriptor, 100, 0)
    b'test_app.py::test_all (call)\\x00'
    """

    def __init__(self) -> None:
        self.name_descriptor = os.memfd_create("memprot-test")
        # Closed by what the tests execute, so that nothing is left of it in other programs.
        self.stderr_descriptor = os.dup(_STDERR) if stderr.is_open() else _STDERR

    def set(self, name: str) -> None:
        """Say what is running now.

        Args:
            name: of the test, and its phase; empty for none.
        """
        # Shortening the file would give its page back, and make a new one for each test.
        os.pwrite(self.name_descriptor, name.encode("utf-8", "backslashreplace") + b"\0", 0)

    def reporter(self, policy: str, document: str | None) -> list[bytes]:
        """How a dying process starts its reporter, for ``_native.set_crash_reporter``.

        Args:
            policy: as in :func:`memprot.run.reporter.command`.
            document: as in :func:`memprot.run.reporter.command`.
        """
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); from memprot.run.pytest_crash import main; "
            "main(*sys.argv[2:])"
        )
        words = (sys.executable, "-I", "-c", code, root, str(self.name_descriptor), policy, document or "")
        return [os.fsencode(word) for word in words]


def main(name_descriptor: str, policy: str, document: str) -> None:
    """Name the test that was running in the parent process, and tell of its death.

    Args:
        name_descriptor: of the parent process: the test's name.
        policy: as in :func:`memprot.run.crash.main`.
        document: as in :func:`memprot.run.crash.main`.

    Raises:
        OSError: the document cannot be written.

    >>> callable(main)
    True
    """
    # The process that reports a test's death needs this one only.
    from memprot.run import crash

    try:
        with open(f"/proc/{os.getppid()}/fd/{name_descriptor}", "rb") as file:
            name = file.read().partition(b"\0")[0].decode("utf-8", "replace")
    except OSError:
        name = ""  # the test has closed it; the report names its lines all the same
    if name:
        stderr.say(f"\nmemprot: the process dies in {name}\n")
    crash.main(policy, document)
