"""The source line that an address of machine code was compiled from."""

from __future__ import annotations

from typing import Any

__all__ = ["SourceLine"]


class SourceLine:
    """A place in a library's code, and its source line as soon as somebody asks for it.

    Args:
        library: the path of the file.
        position: the virtual address in that file, inside the instruction.

    Pickled, it takes along what is known: where it arrives, the library may be another one.

    >>> SourceLine("/nonexistent.so", 0x1000).file is None
    True
    """

    __slots__ = ("_found", "library", "position")

    def __init__(self, library: str, position: int) -> None:
        self.library = library
        self.position = position
        self._found: tuple[str | None, int | None] | None = None

    @property
    def file(self) -> str | None:
        """The source file, as the compiler was given it; None when it is not known."""
        return self._find()[0]

    @property
    def line(self) -> int | None:
        """The line in it, from 1 on; None when it is not known."""
        return self._find()[1]

    def _find(self) -> tuple[str | None, int | None]:
        if self._found is None:
            # Here, because what reads debug information takes long to import, and few programs look.
            from memprot.faults.debug_information import find_line

            self._found = find_line(self.library, self.position) or (None, None)
        return self._found

    def __repr__(self) -> str:
        return f"SourceLine({self.library!r}, {self.position:#x})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SourceLine):
            return NotImplemented
        return (self.library, self.position) == (other.library, other.position)

    def __hash__(self) -> int:
        return hash((self.library, self.position))

    def __reduce__(self) -> tuple[Any, ...]:
        return _found_already, (self.library, self.position, self._find())


def _found_already(library: str, position: int, found: tuple[str | None, int | None]) -> SourceLine:
    source = SourceLine(library, position)
    source._found = found
    return source
