r"""Names that others chose, made safe to show: nothing in them moves a cursor or hides a letter.

>>> from memprot.printable import printable
>>> printable("red\x1b[31m")
'red\\x1b[31m'
"""

__all__ = ["printable"]


def printable(name: str) -> str:
    r"""A name with everything that is not a visible character or a space written as an escape, and the
    backslash too.

    :param name: any str, also with the surrogates that ``os.fsdecode`` makes of bytes that are not UTF-8;
        those are written as the bytes they were.

    >>> from memprot.printable import printable
    >>> printable("two\nlines \udcff")
    'two\\nlines \\xff'
    """
    if name.isprintable() and "\\" not in name:
        return name
    return "".join(map(_shown, name))


def _shown(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character.isprintable() and character != "\\":
        return character
    return character.encode("unicode_escape").decode("ascii")
