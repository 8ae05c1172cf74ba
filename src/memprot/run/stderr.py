"""Writing to the standard error of the process, whatever the program does to ``sys.stderr``."""

import os
import sys

__all__ = ["can_show", "is_open", "is_terminal", "say"]

_FILE = 2


def is_open() -> bool:
    """Whether the process was started with a standard error; else descriptor 2 may be any file.

    >>> is_open()
    True
    """
    return sys.__stderr__ is not None


def is_terminal() -> bool:
    """Whether it is a terminal at this moment.

    >>> is_terminal() in (True, False)
    True
    """
    return os.isatty(_FILE)


def can_show(text: str) -> bool:
    """Whether its encoding has these characters.

    Args:
        text: any.

    >>> can_show("memprot")
    True
    """
    try:
        text.encode(_encoding())
    except UnicodeEncodeError:
        return False
    return True


def say(text: str) -> None:
    """Write all of it, in one call where the kernel takes it; what its encoding lacks becomes escapes.

    Args:
        text: any.

    >>> say("")
    """
    if not is_open():
        return
    left = encoded(text)
    while left:
        try:
            left = left[os.write(_FILE, left) :]
        except OSError:
            # Nobody is left to read it, and there is no better place to say so; the program goes on.
            return


def encoded(text: str) -> bytes:
    """The bytes of a text for standard error.

    Args:
        text: any.

    >>> encoded("memprot")
    b'memprot'
    """
    return text.encode(_encoding(), "backslashreplace")


def _encoding() -> str:
    return "utf-8" if sys.__stderr__ is None else sys.__stderr__.encoding
