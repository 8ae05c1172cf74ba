"""Lines of coloured text that end at a fixed width, for terminals and for files."""

from typing import TypeAlias

__all__ = ["Ink", "Span"]

Span: TypeAlias = "tuple[str, str]"
"""A style (``plain dim bold red green cyan yellow``, some joined by a space) and the text."""

_CODES = {"plain": "", "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_IN_ASCII = str.maketrans("│╰╭─├┤█…░·", "|`,-||#.-.")


def _without_end(spans: list[Span]) -> list[Span]:
    """The spans without the spaces at the end of the line."""
    while spans and not spans[-1][1].rstrip():
        spans.pop()
    if spans:
        style, text = spans.pop()
        spans.append((style, text.rstrip()))
    return spans


class Ink:
    """Turns spans into lines.

    Args:
        color: whether to write ANSI escapes.
        unicode: whether box-drawing characters can be shown.
        width: how many characters a line may have.

    >>> Ink(color=False, width=12).line(("bold", "a long line"), ("dim", " that ends"))
    'a long line…'
    """

    __slots__ = ("color", "unicode", "width")

    def __init__(self, *, color: bool = False, unicode: bool = True, width: int = 100) -> None:
        self.color = color
        self.unicode = unicode
        self.width = width

    def line(self, *spans: Span) -> str:
        """The spans side by side, cut at the width."""
        shown = sum(len(text) for _, text in spans)
        room = self.width if shown <= self.width else self.width - 1
        painted = []
        for style, text in _without_end(list(spans)):
            painted.append(self._paint(style, text[:room] + ("…" if len(text) > room else "")))
            room -= len(text)
            if room < 0:
                break
        return "".join(painted)

    def _paint(self, style: str, text: str) -> str:
        text = text if self.unicode else text.translate(_IN_ASCII)
        codes = ";".join(filter(None, (_CODES[name] for name in style.split())))
        return f"\x1b[{codes}m{text}\x1b[0m" if self.color and codes and text.strip() else text
