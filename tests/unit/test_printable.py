"""Names that others chose, shown safely."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memprot.printable import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/usr/lib/libc.so.6", "/usr/lib/libc.so.6"),
        ("/häßlich 名前", "/häßlich 名前"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff", "\\xff"),
        ("back\\slash", "back\\\\slash"),
        ("[red]markup[/red]", "[red]markup[/red]"),
    ],
)
def test_only_visible_characters_come_out(name: str, shown: str) -> None:
    assert printable(name) == shown


@given(st.binary())
def test_any_file_name_becomes_printable(name: bytes) -> None:
    assert printable(name.decode(errors="surrogateescape")).isprintable()
