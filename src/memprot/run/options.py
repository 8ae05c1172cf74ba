"""What the user asked of ``memprot run``, and how it reaches the interpreter that runs the program."""

import sys
from typing import Literal, cast

__all__ = ["OnFault", "Options", "Side"]


OnFault = Literal["raise", "log", "abort"]
Side = Literal["right", "left"]


class Options:
    """The options of one run.

    Attributes:
        on_fault: what becomes of a fault that can be survived: ``raise``, ``log`` or ``abort``.
        align: what the address of each array is a multiple of.
        side: which end of an array lies at its guard: ``right`` or ``left``.
        error_exitcode: what status 0 becomes when a fault was seen; 0 leaves it.
        quiet: whether only fault reports are printed.
        json: absolute path of the document; None for none.

    >>> options = Options(json="/tmp/a report.json", quiet=True)
    >>> Options.from_text(options.as_text(flags=0))[0].json
    '/tmp/a report.json'
    """

    __slots__ = ("align", "error_exitcode", "json", "on_fault", "quiet", "side")

    def __init__(
        self,
        on_fault: OnFault = "raise",
        side: Side = "right",
        error_exitcode: int = 0,
        quiet: bool = False,
        json: str | None = None,
        align: int = 1,
    ) -> None:
        self.on_fault = on_fault
        self.side = side
        self.align = align
        self.error_exitcode = error_exitcode
        self.quiet = quiet
        self.json = json

    def as_text(self, flags: int) -> str:
        """Words that need no module to be read again; the path is last because it may hold spaces.

        Args:
            flags: how many arguments of the new interpreter's command line are its own.
        """
        words = (
            self.on_fault,
            self.side,
            str(self.align),
            str(self.error_exitcode),
            str(int(self.quiet)),
            str(flags),
        )
        return " ".join((*words, self.json or ""))

    @staticmethod
    def from_text(text: str) -> "tuple[Options, list[str]]":
        """The options, and the program with its arguments as this interpreter was given them."""
        on_fault, side, align, error_exitcode, quiet, flags, json = text.split(" ", 6)
        options = Options(
            cast("OnFault", on_fault), cast("Side", side), int(error_exitcode), quiet == "1", json or None, int(align)
        )
        return options, sys.orig_argv[1 + int(flags) :]
