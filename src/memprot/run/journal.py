"""The report of a run as data: a document that is true at every moment, also when the program is killed."""

from __future__ import annotations

import os
from stat import S_ISREG

import memprot._native as _native
from memprot.run.json_text import json_text

# What typing.TYPE_CHECKING stands for, without the modules that typing would bring into the program.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from memprot.faults.document import Json
    from memprot.faults.record import FaultRecord
    from memprot.run.suppressions import Suppression

__all__ = ["Journal"]


class Journal:
    """Writes ``{"schema": 1, "argv": [...], "exit": ..., "guarded": {...}, "suppressed": [...], "faults": [...]}``.

    Args:
        path: of the document, absolute.
        argv: the program and its arguments as the user typed them.

    Raises:
        OSError: from every writing method, with the errno of what could not be done to the file.

    >>> import json, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "report.json")
    ...     Journal(str(path), ["app.py"]).begin()
    ...     json.loads(path.read_text())["exit"] is None
    True
    """

    __slots__ = ("_texts", "argv", "body", "listed", "path", "rewritable")

    def __init__(self, path: str, argv: list[str]) -> None:
        self.path = os.fsencode(path)
        self.argv = argv
        self.rewritable = _is_regular_or_new(path)
        self.body = _body({}, [])
        self.listed = False
        self._texts: dict[int, tuple[FaultRecord, int, str]] = {}

    @property
    def head(self) -> bytes:
        """The document up to the exit status."""
        return f'{{"schema": 1,\n "argv": {json_text(list(self.argv))},\n "exit": '.encode()

    def set(
        self,
        guarded: Mapping[str, Mapping[str, int]],
        faults: Iterable[tuple[FaultRecord, int]],
        suppressed: Iterable[tuple[Suppression, int]] = (),
    ) -> None:
        """Take in what is known now; nothing is written."""
        texts = [self._text(record, count) for record, count in faults]
        self.body = _body(guarded, texts, suppressed)
        self.listed = bool(texts)

    def _text(self, record: FaultRecord, count: int) -> str:
        known = self._texts.get(id(record))
        if known is not None and known[1] == count:
            return known[2]
        # Here, because a run without a fault never needs it.
        from memprot.faults.document import fault_document

        text = json_text(fault_document(record, count))
        # The record is kept with its text: its id is its own as long as it lives.
        self._texts[id(record)] = (record, count, text)
        return text

    def begin(self) -> None:
        """Show that the document can be written; its first form, where it can be replaced later."""
        if self.rewritable:
            self.write()
        elif not os.access(self.path, os.W_OK):
            raise PermissionError(13, os.strerror(13), os.fsdecode(self.path))

    def write(self) -> None:
        """Write the document with an exit status of null; nothing where it cannot be replaced later."""
        if self.rewritable:
            _native.write_document(self.path, self.head + b"null" + self.body + b"]}\n")


def _body(
    guarded: Mapping[str, Mapping[str, int]], faults: list[str], suppressed: Iterable[tuple[Suppression, int]] = ()
) -> bytes:
    counts: dict[str, Json] = {"numpy": {"arrays": 0, "bytes": 0}}
    counts.update((target, dict(numbers)) for target, numbers in guarded.items())
    listed = "".join(f"{',' if i else ''}\n  {text}" for i, text in enumerate(faults))
    known: Json = [{"name": one.name, "place": one.place, "count": count} for one, count in suppressed]
    head = f',\n "guarded": {json_text(counts)},\n "suppressed": {json_text(known)},\n "faults": ['
    return f"{head}{listed}".encode()


def _is_regular_or_new(path: str) -> bool:
    try:
        return S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True
