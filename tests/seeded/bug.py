"""What a seeded bug is, and what must be said of it."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Function = Callable[[Any], object]


class Expected(NamedTuple):
    """What a report must say.

    Attributes:
        distance: of the first byte: from the end of the block; from its start where it is negative, and in a freed
            block. A range where the C library's functions choose, None where there is no block.
        size: bytes of the access that lie where they must not; None where the compiler or the C library chooses.
    """

    kind: str
    access: str
    distance: int | range | None
    size: int | None

    def fits(self, fault: dict[str, Any]) -> bool:
        """Whether an entry of the document says all this."""
        return (
            fault["kind"] == self.kind
            and fault["access"] == self.access
            and fault["distance"] in (self.distance if isinstance(self.distance, range) else [self.distance])
            and self.size in (None, fault["size"])
        )


class Bug(NamedTuple):
    """One function with a bug.

    Attributes:
        call: calls the code that has the bug. Its comments mark the lines that a report must name.
        code: the file in ``code`` that has the bug.
        guard: whose memory must be guarded, an argument of ``--guard``; None where none is needed.
        options: of ``memprot run``, further ones.
    """

    call: Function
    code: str
    expected: Expected
    guard: str | None
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.call.__name__

    @property
    def title(self) -> str:
        """What is wrong, in a few words."""
        return inspect.cleandoc(self.call.__doc__ or "").rstrip(".")

    @property
    def language(self) -> str:
        return {".c": "C", ".cpp": "C++", ".pyx": "Cython", ".py": "numba"}[Path(self.code).suffix]

    @property
    def file(self) -> str:
        return str(Path(inspect.getfile(self.call)).resolve())

    def line(self, mark: str) -> int | None:
        """The number of the line whose comment has this mark: ``fault``, ``allocated`` or ``freed``."""
        source, first = inspect.getsourcelines(self.call)
        for number, text in enumerate(source, first):
            if mark in text.partition("  # ")[2].strip().split(", "):
                return number
        return None


BUGS: dict[str, Bug] = {}


def seeded(
    code: str,
    kind: str,
    access: str,
    distance: int | range | None,
    size: int | None = None,
    guard: str | None = "numpy",
    options: tuple[str, ...] = (),
) -> Callable[[Function], Function]:
    """Declares a function that calls code with a bug, and what must be said of it."""

    def declare(call: Function) -> Function:
        bug = Bug(call, code, Expected(kind, access, distance, size), guard, options)
        BUGS[bug.name] = bug
        return call

    return declare
