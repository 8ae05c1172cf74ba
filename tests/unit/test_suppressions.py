"""Files of suppressions: what they say, what is wrong with them, and that nothing else comes of any text."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memprot.faults.record import FaultKind, FaultRecord, FaultThread, NativeFrame, PythonFrame
from memprot.faults.source_line import SourceLine
from memprot.run.options import GUARDS, Options
from memprot.run.suppression_block import suppression_block
from memprot.run.suppressions import FramePattern, SuppressionsError, parse, read

WHOLE = """\
\ufeff# A comment, and empty lines.

suppression: all that is possible
    kind: overflow, use-after-free
    access: write execute
    library: libc.so*  function: mem*
    ...
    function: <lambda>   file: */a folder/app.py
suppression:   another
library:libfoo.so
"""


def test_each_line_says_one_thing(tmp_path: Path) -> None:
    path = tmp_path / "known.supp"
    path.write_text(WHOLE, "utf-8")
    first, second = read([str(path)])
    assert (first.name, first.place, first.kinds, first.accesses) == ("all that is possible", f"{path}:3", 0b101, 0b110)
    assert first.frames == (
        FramePattern("libc.so*", "mem*", None),
        None,
        FramePattern(None, "<lambda>", "*/a folder/app.py"),
    )
    assert (second.name, second.place, second.frames) == (
        "another",
        f"{path}:9",
        (FramePattern("libfoo.so", None, None),),
    )
    assert (second.kinds, second.accesses) == ((1 << 10) - 1, 0b111)


def test_a_file_may_say_nothing(tmp_path: Path) -> None:
    for text in ("", "\n\n", "# nothing yet"):
        assert parse(text, "known.supp") == []


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("library: libfoo.so", 1, "stands before the first 'suppression: NAME'; begin with that line."),
        ("suppression:", 1, "without a name; write one"),
        ("suppression: a\x07b\nkind: *", 1, "it contains '\\x07', which cannot be printed; write ? in its place."),
        ("suppression: a", 1, "'a' would match every fault; give it a frame, or 'kind: *' if that is meant."),
        ("suppression: a\n...", 1, "would match every fault"),
        (
            "suppression: a\nkind: bus\n\n# b\nsuppression: b\n\nsuppression: c\nkind: *",
            5,
            "'b' would match every fault",
        ),
        ("suppression: a\nkind: overrun", 2, "'overrun' is no kind; there are overflow, underflow, "),
        ("suppression: a\nkind:", 2, "'kind:' says nothing; write * for anything."),
        ("suppression: a\nkind: stack-overflow", 2, "cannot be suppressed: the program dies of it; leave it out."),
        ("suppression: a\nkind: bus\nkind: key", 3, "a second 'kind:'; write all kinds in one line"),
        ("suppression: a\naccess: exec", 2, "'exec' is no access; there are read, write, execute, and *"),
        ("suppression: a\naccess: read\naccess: read", 3, "a second 'access:'"),
        ("suppression: a\nlibrary:", 2, "'library:' has no pattern; write * for anything."),
        ("suppression: a\nlibrary: function: f", 2, "'library:' has no pattern"),
        ("suppression: a\nfunction: f  function: g", 2, "a second 'function:' in one line"),
        ("suppression: a\nfile: a.py  library: b.so", 2, "never both; make two lines of it."),
        ("suppression: a\nobj: libfoo.so", 2, "'obj: libfoo.so' is not understood; a line is 'kind:', 'access:'"),
        ("suppression: a\n....", 2, "'....' is not understood"),
        ("{\n", 1, "'{' stands before the first"),
        ("suppression: a\nfunction: f\0g", 2, "it contains '\\x00', which cannot be printed"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_what_to_do(text: str, line: int, words: str) -> None:
    with pytest.raises(SuppressionsError) as caught:
        parse(text, "known.supp")
    assert str(caught.value).startswith(f"known.supp, line {line}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "known.supp"
    path.write_bytes(b"# one\n# tw\xff\n")
    with pytest.raises(SuppressionsError, match=r"known.supp, line 2: byte 0xff is no UTF-8; "):
        read([str(path)])
    for unfit in (tmp_path, tmp_path / "missing", Path("/dev/null")):
        with pytest.raises(SuppressionsError, match=str(unfit)):
            read([str(unfit)])


LINES = st.sampled_from(
    ["suppression:", "kind:", "access:", "library:", "function:", "file:", "...", "#", ":", "*", "\n"]
)


@given(st.lists(st.one_of(LINES, st.text(max_size=9)), max_size=30).map(" ".join))
def test_of_any_text_come_suppressions_or_one_sentence(text: str) -> None:
    try:
        found = parse(text, "known.supp")
    except SuppressionsError as error:
        assert str(error).startswith("known.supp, line ")
        assert "\n" not in str(error)
    else:
        assert len(found) <= text.count("suppression:")
        assert all(one.name and one.kinds and one.accesses for one in found)


NAMES = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=20)
NATIVE = st.builds(
    NativeFrame,
    st.just(0x1000),
    st.none() | NAMES,
    st.none() | NAMES.map("/lib/{}".format),
    st.just(4),
    st.none() | st.just(SourceLine("/lib/any.so", 4)),
)
RECORDS = st.builds(
    lambda kind, native, python: FaultRecord(
        kind, "write", 8, 0x1000, None, True, 11, None, python, tuple(native), FaultThread(7, None), None
    ),
    st.sampled_from([kind for kind in FaultKind.__args__ if kind != "stack-overflow"]),  # type: ignore[attr-defined]
    st.lists(NATIVE, max_size=5),
    st.none() | st.lists(st.builds(PythonFrame, NAMES, st.just(3), NAMES), max_size=4).map(tuple),
)


@given(RECORDS)
def test_what_is_generated_can_be_read_whatever_the_names(record: FaultRecord) -> None:
    block = suppression_block(record)
    (one,) = parse(block + block, "known.supp")[:1]
    assert bin(one.kinds).count("1") == 1
    assert one.accesses == 0b10
    assert (None, None) not in zip(one.frames, one.frames[1:], strict=False)


TEXT = st.text(max_size=20)


@settings(max_examples=200)
@given(
    st.builds(
        Options,
        on_fault=st.sampled_from(["raise", "log", "abort"]),
        side=st.sampled_from(["right", "left", "random", "turns"]),
        error_exitcode=st.integers(0, 255),
        quiet=st.booleans(),
        json=st.none() | TEXT,
        align=st.integers(0, 4096),
        guard=st.lists(st.sampled_from(GUARDS), unique=True).map(tuple),
        sample=st.integers(1, 1 << 40),
        quarantine=st.integers(0, 1 << 60),
        follow=st.booleans(),
        suppressions=st.lists(TEXT.filter(bool)).map(tuple),
        gen_suppressions=st.none() | TEXT,
    )
)
def test_any_options_survive_their_way_through_the_environment(options: Options) -> None:
    read_again, argv = Options.from_text(options.as_text(flags=0))
    assert argv == sys.orig_argv[1:]
    for name in Options.__slots__:
        assert getattr(read_again, name) == getattr(options, name)
