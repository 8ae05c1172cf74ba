"""What the user asked of ``memprot run``, and how it reaches the interpreter that runs the program."""

import sys
from collections.abc import Callable
from typing import Literal, get_args

__all__ = ["GUARDS", "Guard", "OnFault", "Options", "Side"]


OnFault = Literal["raise", "log", "abort"]
Side = Literal["right", "left", "random", "turns"]
Guard = Literal["numpy", "raw", "mem", "obj", "malloc"]

GUARDS: tuple[Guard, ...] = get_args(Guard)

_SEPARATOR = "\x1f"


class Options:
    """The options of one run.

    Attributes:
        on_fault: what becomes of a fault that can be survived: ``raise``, ``log`` or ``abort``.
        guard: whose blocks are guarded.
        side: which end of a block lies at its guard: ``right``, ``left``, one of them at ``random``, both by ``turns``.
        align: what the address of each block is a multiple of; 0 for what the allocator promises.
        sample: one block of so many is guarded.
        quarantine: how many bytes of freed blocks stay inaccessible.
        error_exitcode: what status 0 becomes when a fault was seen; 0 leaves it.
        quiet: whether only fault reports are printed.
        json: absolute path of the document; None for none.
        follow: whether the programs that this one starts are run under memprot too.
        suppressions: absolute paths of the files that say which faults are not told.
        gen_suppressions: where what would suppress each fault is written: ``-`` for standard error, or an absolute
            path; None for nowhere.

    >>> options = Options(json="/tmp/a report.json", quiet=True)
    >>> Options.from_text(options.as_text(flags=0))[0].json
    '/tmp/a report.json'
    """

    __slots__ = (
        "align",
        "error_exitcode",
        "follow",
        "gen_suppressions",
        "guard",
        "json",
        "on_fault",
        "quarantine",
        "quiet",
        "sample",
        "side",
        "suppressions",
    )

    def __init__(
        self,
        on_fault: OnFault = "raise",
        side: Side = "right",
        error_exitcode: int = 0,
        quiet: bool = False,
        json: str | None = None,
        align: int = 0,
        guard: tuple[Guard, ...] = ("numpy",),
        sample: int = 1,
        quarantine: int = 0,
        follow: bool = False,
        suppressions: tuple[str, ...] = (),
        gen_suppressions: str | None = None,
    ) -> None:
        self.on_fault = on_fault
        self.guard = guard
        self.side = side
        self.align = align
        self.sample = sample
        self.quarantine = quarantine
        self.error_exitcode = error_exitcode
        self.quiet = quiet
        self.json = json
        self.follow = follow
        self.suppressions = suppressions
        self.gen_suppressions = gen_suppressions

    def as_text(self, flags: int) -> str:
        """One line that needs no module to be read again.

        Args:
            flags: how many arguments of the new interpreter's command line are its own.
        """
        words = [str(flags)]
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None:
                text = ",".join(_quoted(one, ",") for one in value) if isinstance(value, tuple) else str(value)
                words.append(f"{name}={_quoted(text, _SEPARATOR)}")
        return _SEPARATOR.join(words)

    @staticmethod
    def from_text(text: str) -> "tuple[Options, list[str]]":
        """The options, and the program with its arguments as this interpreter was given them."""
        flags, *words = text.split(_SEPARATOR)
        options = Options()
        for word in words:
            name, _, text = word.partition("=")
            setattr(options, name, _READ.get(name, str)(_unquoted(text, _SEPARATOR)))
        return options, sys.orig_argv[1 + int(flags) :]


def _quoted(text: str, separator: str) -> str:
    return text.replace("%", "%25").replace(separator, f"%{ord(separator):02x}")


def _unquoted(text: str, separator: str) -> str:
    return text.replace(f"%{ord(separator):02x}", separator).replace("%25", "%")


def _words(text: str) -> tuple[str, ...]:
    return tuple(_unquoted(word, ",") for word in text.split(",")) if text else ()


# How an option that is no str is read.
_READ: dict[str, Callable[[str], object]] = {
    "align": int,
    "error_exitcode": int,
    "follow": "True".__eq__,
    "guard": _words,
    "quarantine": int,
    "quiet": "True".__eq__,
    "sample": int,
    "suppressions": _words,
}
