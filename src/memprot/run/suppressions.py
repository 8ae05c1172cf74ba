"""Files that say which faults the user knows of and does not want to hear about."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["FramePattern", "Suppression", "SuppressionsError", "parse", "read"]

# In the order of the bits in libmemprot/suppression.h.
_KINDS = (
    "overflow",
    "underflow",
    "use-after-free",
    "double-free",
    "wild-free",
    "slack",
    "protection",
    "key",
    "unmapped",
    "bus",
)
_ACCESSES = ("read", "write", "execute")
_FRAME_KEYS = ("library", "function", "file")


class SuppressionsError(Exception):
    """A file of suppressions that cannot be read or understood; the message names it, its line and what to do.

    >>> str(SuppressionsError("known.supp, line 1: an empty pattern matches nothing; write * for anything."))
    'known.supp, line 1: an empty pattern matches nothing; write * for anything.'
    """


class FramePattern(NamedTuple):
    """What one frame of a stack is compared with; None where anything will do.

    Attributes:
        library: of machine code.
        function: of machine code or of Python.
        file: of Python.

    >>> FramePattern("libfoo.so*", "convolve", None).file is None
    True
    """

    library: str | None
    function: str | None
    file: str | None


class Suppression(NamedTuple):
    """One block of a file: which faults are not to be told.

    Attributes:
        name: as the user calls it.
        place: where it is written, ``file:line``.
        kinds: bits, as the binding takes them.
        accesses: bits, as the binding takes them.
        frames: from the innermost outwards; None stands for any number of frames.

    >>> Suppression("all that libfoo does", "known.supp:1", 1, 2, (None,)).name
    'all that libfoo does'
    """

    name: str
    place: str
    kinds: int
    accesses: int
    frames: tuple[FramePattern | None, ...]


class _Block:
    def __init__(self, name: str, line: int) -> None:
        self.name = name
        self.line = line
        self.kinds: int | None = None
        self.accesses: int | None = None
        self.frames: list[FramePattern | None] = []

    def finished(self, path: str) -> Suppression:
        if self.kinds is None and self.accesses is None and not any(self.frames):
            raise SuppressionsError(
                f"{path}, line {self.line}: {self.name!r} would match every fault; give it a frame, or 'kind: *' if "
                "that is meant."
            )
        kinds = (1 << len(_KINDS)) - 1 if self.kinds is None else self.kinds
        accesses = (1 << len(_ACCESSES)) - 1 if self.accesses is None else self.accesses
        return Suppression(self.name, f"{path}:{self.line}", kinds, accesses, tuple(self.frames))

    def take(self, line: str) -> None:
        """Add what a line says of the block."""
        key, colon, value = line.partition(":")
        if line == "...":
            self.frames.append(None)
        elif colon and key == "kind":
            if self.kinds is not None:
                raise _complaint("a second 'kind:'; write all kinds in one line, with commas between them.")
            self.kinds = _bits(key, value, _KINDS)
        elif colon and key == "access":
            if self.accesses is not None:
                raise _complaint("a second 'access:'; write all of them in one line, with commas between them.")
            self.accesses = _bits(key, value, _ACCESSES)
        elif colon and key in _FRAME_KEYS:
            self.frames.append(_frame(line))
        else:
            raise _complaint(
                f"{line!r} is not understood; a line is 'kind:', 'access:', a frame with 'library:', 'function:' or "
                "'file:', '...' for any number of frames, or 'suppression:' for the next one."
            )


def parse(text: str, path: str) -> list[Suppression]:
    """Read the text of a file.

    Args:
        text: its lines; ``docs/suppressions.md`` has the grammar.
        path: how messages call it.

    Raises:
        SuppressionsError: a line is not understood.

    >>> found = parse("suppression: known\\n  kind: overflow\\n  library: libfoo.so*  function: fill\\n", "known.supp")
    >>> found[0].name, found[0].frames
    ('known', (FramePattern(library='libfoo.so*', function='fill', file=None),))
    """
    blocks: list[_Block] = []
    for number, line in _lines(text):
        key, colon, value = line.partition(":")
        try:
            if colon and key == "suppression":
                blocks.append(_Block(_named(value), number))
            elif not blocks:
                raise _complaint(f"{line!r} stands before the first 'suppression: NAME'; begin with that line.")
            else:
                blocks[-1].take(line)
        except ValueError as error:
            raise SuppressionsError(f"{path}, line {number}: {error}") from None
    return [block.finished(path) for block in blocks]


def read(paths: Iterable[str]) -> list[Suppression]:
    """Read files, in their order.

    Args:
        paths: of regular files: they are read again when the program starts.

    Raises:
        SuppressionsError: one cannot be read, or not be understood.

    >>> read([])
    []
    """
    return [suppression for path in paths for suppression in parse(_text_of(path), path)]


def _text_of(path: str) -> str:
    # Here, because only a run with such files needs it.
    import os
    import stat

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise SuppressionsError(f"{path} is no regular file, and it is read more than once; give it a file.")
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise SuppressionsError(
            f"{path} cannot be read: {error.strerror}; name a file that can, or leave it out."
        ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SuppressionsError(
            f"{path}, line {line}: byte {data[error.start]:#04x} is no UTF-8; write ? where a name has such a byte."
        ) from error


def _complaint(sentence: str) -> ValueError:
    return ValueError(sentence)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, numbered from 1, without the space around them."""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = " ".join(line.split())
        if stripped and not stripped.startswith("#"):
            yield number, stripped


def _named(value: str) -> str:
    if not value.strip():
        raise _complaint("a suppression without a name; write one behind 'suppression:'.")
    return _printable(value.strip())


def _printable(value: str) -> str:
    strange = next((character for character in value if not character.isprintable()), None)
    if strange is not None:
        raise _complaint(f"it contains {strange!r}, which cannot be printed; write ? in its place.")
    return value


def _bits(key: str, value: str, names: tuple[str, ...]) -> int:
    bits = 0
    for name in value.replace(",", " ").split():
        if name == "*":
            return (1 << len(names)) - 1
        if name == "stack-overflow":
            raise _complaint("a stack-overflow cannot be suppressed: the program dies of it; leave it out.")
        if name not in names:
            raise _complaint(f"{name!r} is no {key}; there are {', '.join(names)}, and * for all of them.")
        bits |= 1 << names.index(name)
    if not bits:
        raise _complaint(f"'{key}:' says nothing; write * for anything.")
    return bits


def _frame(line: str) -> FramePattern:
    values: dict[str, list[str]] = {}
    words: list[str] = []
    for word in line.split():
        key, colon, rest = word.partition(":")
        if colon and key in _FRAME_KEYS:
            if key in values:
                raise _complaint(f"a second '{key}:' in one line; a line is one frame: begin another.")
            words = values[key] = []
            word = rest
        words += [word] if word else []
    for key, parts in values.items():
        if not parts:
            raise _complaint(f"'{key}:' has no pattern; write * for anything.")
    if "library" in values and "file" in values:
        raise _complaint(
            "a frame has a 'library:' (machine code) or a 'file:' (Python), never both; make two lines of it."
        )
    library, function, file = (_printable(" ".join(values[key])) if key in values else None for key in _FRAME_KEYS)
    return FramePattern(library, function, file)
