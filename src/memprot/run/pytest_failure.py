"""The failure text of a test that broke memory: memprot's reports, in colour where pytest writes in colour."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Crash", "Failure", "without_color"]

_COLOR = re.compile(r"\x1b\[[0-9;]*m")


def without_color(text: str) -> str:
    """The text without its ANSI colours.

    Args:
        text: a report of :func:`memprot.faults.report.render`, which writes no other escapes.

    >>> without_color("a \\x1b[1mbold\\x1b[0m word")
    'a bold word'
    """
    return _COLOR.sub("", text)


class Crash(NamedTuple):
    """Where a test failed and of what: what pytest's short summary, ``--tb=line`` and JUnit's message show.

    Attributes:
        path: of the file.
        lineno: from 1 on.
        message: one line.

    >>> str(Crash("test_app.py", 12, "write of 8 bytes"))
    'test_app.py:12: write of 8 bytes'
    """

    path: str
    lineno: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.lineno}: {self.message}"


class Failure:
    """Stands as ``longrepr`` in a report of pytest's.

    Args:
        texts: of the faults: whole reports, or references to tests that have told them.
        reprcrash: where and of what the test failed.
        rest: pytest's own ``longrepr`` of what failed besides; None when the faults are all.

    >>> print(Failure(["memprot: a fault\\n"], Crash("test_app.py", 12, "a fault")))
    memprot: a fault
    <BLANKLINE>
    test_app.py:12: a fault
    """

    def __init__(self, texts: Sequence[str], reprcrash: Crash, rest: Any = None) -> None:
        self.texts = list(texts)
        self.reprcrash = reprcrash
        self.rest = rest

    def toterminal(self, tw: Any) -> None:
        """Write it.

        Args:
            tw: pytest's terminal writer.
        """
        if self.rest is not None:
            if hasattr(self.rest, "toterminal"):
                self.rest.toterminal(tw)
            else:
                tw.line(str(self.rest))
            tw.sep("_ ", "memory faults")
        for text in self.texts:
            for line in text.splitlines():
                tw.line(line if tw.hasmarkup else without_color(line))
            tw.line()
        if self.rest is None:
            tw.line(str(self.reprcrash))

    def __str__(self) -> str:
        rest = [] if self.rest is None else [str(self.rest), "memory faults:"]
        end = [str(self.reprcrash)] if self.rest is None else []
        return "\n".join([*rest, *map(without_color, self.texts), *end])

    # xdist tells what many workers meet in collecting a file once, by comparing.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failure) and self.reprcrash == other.reprcrash

    def __hash__(self) -> int:
        return hash(self.reprcrash)

    def as_data(self) -> dict[str, Any]:
        """It without its rest, as data for another process.

        >>> Failure(["a"], Crash("b", 1, "c")).as_data()
        {'texts': ['a'], 'crash': ['b', 1, 'c'], 'alone': True}
        """
        return {"texts": self.texts, "crash": list(self.reprcrash), "alone": self.rest is None}

    @classmethod
    def from_data(cls, data: dict[str, Any], rest: Any) -> Failure:
        """The same again.

        Args:
            data: from :meth:`as_data`.
            rest: pytest's own ``longrepr``.

        >>> str(Failure.from_data(Failure(["a"], Crash("b", 1, "c")).as_data(), "ignored"))
        'a\\nb:1: c'
        """
        return cls(data["texts"], Crash(*data["crash"]), None if data["alone"] else rest)
