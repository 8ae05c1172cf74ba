"""The report of a fault: what it says, what it leaves out, and that nothing in it can harm a terminal."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from memprot.faults.ink import Ink
from memprot.faults.record import Block, Element, FaultKind, FaultRecord, FaultThread, NativeFrame, PythonFrame
from memprot.faults.report import render, wants_color

THREAD = FaultThread(4242, "MainThread")
STACK = (PythonFrame("/app/app.py", 12, "main"), PythonFrame("/app/app.py", 20, "<module>"))
BLOCK = Block(0x10000, 800, STACK, "float64", (100,), "out")
NATIVE = (NativeFrame(0x7000, "convolve", "/app/libfoo.so", 0x4C), NativeFrame(0x8000, None, None, None))
MAPPING = SimpleNamespace(start=0x10000, stop=0x20000, prot="rw-", path=None)
OVERFLOW = FaultRecord("overflow", "write", 8, 0x10320, 0, True, 11, BLOCK, STACK, NATIVE, THREAD, MAPPING)


def report(policy: str = "raise", ink: Ink | None = None, **changes: Any) -> str:
    return render(OVERFLOW._replace(**changes), policy, ink or Ink())


def block(**changes: Any) -> Block:
    return BLOCK._replace(**changes)


def headline(**changes: Any) -> str:
    return report(**changes).partition("\n")[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "write of 8 bytes, 0 bytes past the end of `out`"),
        ({"size": 1, "distance": 1}, "write of 1 byte, 1 byte past the end of `out`"),
        ({"size": None}, "write, 0 bytes past the end of `out`"),
        ({"distance": None}, "write of 8 bytes, past the end of `out`"),
        (
            {"block": block(name=None)},
            "write of 8 bytes, 0 bytes past the end of a float64 array of shape (100,)",
        ),
        (
            {"block": block(name=None, dtype=None, shape=None)},
            "write of 8 bytes, 0 bytes past the end of a block of 800 bytes from /app/app.py:12",
        ),
        (
            {"block": block(name=None, dtype=None, shape=None, allocated=())},
            "write of 8 bytes, 0 bytes past the end of a block of 800 bytes",
        ),
        ({"block": None}, "write of 8 bytes, 0 bytes past the end of a block"),
        (
            {"kind": "underflow", "access": "read", "distance": -16},
            "read of 8 bytes, 16 bytes before the start of `out`",
        ),
        (
            {"kind": "use-after-free", "distance": 16},
            "write of 8 bytes, 16 bytes into `out`, which was freed",
        ),
        ({"kind": "use-after-free", "distance": None}, "write of 8 bytes, inside `out`, which was freed"),
        ({"kind": "double-free"}, "`out` was freed a second time"),
        ({"kind": "wild-free", "distance": None}, "free of 0x10320, where no block starts"),
        ({"kind": "wild-free", "distance": 8}, "free of 0x10320, 8 bytes into `out`"),
        (
            {"kind": "slack", "size": 3},
            "3 bytes were overwritten, 0 bytes past the end of `out`",
        ),
        (
            {"element": Element(100, 100, 0)},
            "write of 8 bytes, 0 bytes past the end of `out`: element 100 of 100, axis 0",
        ),
        ({"kind": "unmapped", "address": 0}, "write of 8 bytes at 0x0, where nothing is mapped"),
        ({"kind": "protection"}, "write of 8 bytes at 0x10320, where the protection is rw-"),
        (
            {"kind": "protection", "mapping": None},
            "write of 8 bytes at 0x10320, which its protection forbids",
        ),
        (
            {"kind": "protection", "access": "execute", "size": None},
            "execution at 0x10320, where the protection is rw-",
        ),
        ({"kind": "key", "key": 5}, "write of 8 bytes at 0x10320, which protection key 5 forbids to the thread"),
        ({"kind": "bus", "access": "read"}, "read of 8 bytes at 0x10320, which the mapping cannot give"),
    ],
)
def test_the_first_line_says_what_happened(changes: dict[str, Any], expected: str) -> None:
    assert headline(**changes) == f"memprot: {expected}"


def test_it_shows_the_source_of_the_lines_it_names(tmp_path: Path) -> None:
    source = tmp_path / "app.py"
    source.write_text("\n" * 11 + "\tout = np.zeros(100) # \\n\x1b[31m\n")
    frame = PythonFrame(str(source), 12, "main")
    text = report(block=block(allocated=(frame,)), python=(frame,))
    assert text.count("12 │ out = np.zeros(100) # \\n\\x1b[31m\n") == 2


def test_it_says_who_was_running_where_and_on_what() -> None:
    text = report()
    for part in (
        "`out`, 800 bytes, float64 (100,), at 0x10000",
        "allocated in main, /app/app.py:12",
        "running   main, /app/app.py:12",
        "called from <module>, /app/app.py:20",
        "native    libfoo.so: convolve+0x4c",
        "MainThread (4242)",
        "0x10320 in 0x10000-0x20000 rw-",
    ):
        assert part in text


def test_the_line_that_runs_is_the_programs_own_and_the_librarys_is_named_below() -> None:
    inner = PythonFrame(re.__file__, 7, "compile")
    text = report(python=(inner, *STACK), block=block(allocated=(inner, *STACK)))
    assert "running   main, /app/app.py:12" in text
    assert "down to compile, re/__init__.py:7" in text
    assert "allocated in main, /app/app.py:12" in text


def test_what_is_unknown_is_left_out() -> None:
    text = report(block=None, python=None, native=(), mapping=None, kind="unmapped")
    assert "None" not in text
    assert [line for line in text.splitlines() if "│ " in line] == ["│ thread    MainThread (4242)"]


@pytest.mark.parametrize(
    ("policy", "changes", "expected"),
    [
        ("raise", {}, "FaultError is raised in this thread; no byte of the program's data was changed."),
        ("raise", {"python": None}, "The program goes on; no byte of the program's data was changed."),
        ("log", {}, "The program goes on; no byte of the program's data was changed."),
        ("log", {"access": "read"}, "The program goes on; what it read means nothing"),
        ("abort", {"recovered": False}, "The program dies of SIGSEGV, as --on-fault abort asks."),
        ("raise", {"recovered": False}, "The program dies of SIGSEGV: it cannot go on from here."),
        (
            "raise",
            {"recovered": False, "kind": "unmapped", "signal": 7},
            "The program dies of SIGBUS, as it would have without memprot.",
        ),
        ("raise", {"recovered": False, "signal": 0, "kind": "slack"}, "It was found without a signal"),
    ],
)
def test_the_last_line_says_what_happens_next(policy: str, changes: dict[str, Any], expected: str) -> None:
    last = report(policy, **changes).splitlines()[-1]
    assert last.startswith(f"╰─ {expected}")


@pytest.mark.parametrize("kind", get_args(FaultKind))
@pytest.mark.parametrize("access", ["read", "write", "execute"])
@pytest.mark.parametrize("distance", [None, -10_000, -1, 0, 10_000])
@pytest.mark.parametrize("size", [None, 1, 4096])
def test_every_kind_of_fault_has_a_report_within_the_width(
    kind: str, access: str, distance: int | None, size: int | None
) -> None:
    nothing: dict[str, Any] = {"block": None, "python": None, "mapping": None, "native": ()}
    for changes in ({}, nothing):
        text = report(kind=kind, access=access, distance=distance, size=size, **changes)
        assert text.endswith("\n")
        assert all(len(line) <= 100 for line in text.splitlines())


HOSTILE = "a\x1b[2J\n\r\t\u202e\udcff\x00" * 30


def test_hostile_names_cannot_reach_the_terminal() -> None:
    frame = PythonFrame(HOSTILE, 1, HOSTILE)
    text = report(
        block=block(name=HOSTILE, dtype=HOSTILE, allocated=(frame,)),
        python=(frame, frame),
        native=(NativeFrame(1, HOSTILE, HOSTILE, 2),),
        thread=FaultThread(1, HOSTILE),
        mapping=SimpleNamespace(start=0, stop=1, prot=HOSTILE, path=HOSTILE),
    )
    assert all(character.isprintable() or character == "\n" for character in text)
    assert all(len(line) <= 100 for line in text.splitlines())
    assert text.encode("utf-8")


def test_colours_change_nothing_but_the_colour() -> None:
    coloured = report(ink=Ink(color=True))
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == report()
    assert "\x1b[" in coloured


def test_without_box_drawing_it_is_plain_ascii() -> None:
    assert report(ink=Ink(unicode=False)).isascii()


@pytest.mark.parametrize(
    ("terminal", "environment", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours_follow_the_terminal_and_the_environment(
    terminal: bool, environment: dict[str, str], expected: bool
) -> None:
    assert wants_color(terminal, environment) is expected


def test_a_removed_working_directory_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "/app/app.py:12" in report()
