"""Values, instructions and source lines as a report and a document have them."""

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from memprot.faults.document import fault_document
from memprot.faults.ink import Ink
from memprot.faults.record import Block, FaultRecord, FaultThread, NativeFrame
from memprot.faults.report import render
from memprot.faults.value import describe_value

THREAD = FaultThread(4242, "MainThread")
BLOCK = Block(0x10000, 800, (), "float64", (100,), "out")
RECORD = FaultRecord("overflow", "write", 8, 0x10320, 0, True, 11, BLOCK, None, (), THREAD, None)


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (struct.pack("d", 0.1), "float64", "0.1 (float64)"),
        (struct.pack("8d", *range(8)), "float64", "0.0, 1.0, 2.0, 3.0 and 4 more (float64)"),
        (struct.pack("2h", -1, 2), "int16", "-1, 2 (int16)"),
        (b"\x01", "bool", "True (bool)"),
        (b"\x07", "float64", "7, 0x07"),
        (struct.pack("=Q", 0x1122334455667788), None, "1234605616436508552, 0x1122334455667788"),
        (struct.pack("=H", 256), "datetime64[ns]", "256, 0x0100"),
        (bytes(range(16)), None, "bytes 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f"),
        (bytes(64), None, "bytes 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 …"),
    ],
)
def test_a_value_is_read_as_what_it_is_of(value: bytes, dtype: str | None, expected: str) -> None:
    assert describe_value(value, dtype) == expected


def frame(file: str | None, line: int | None) -> Any:
    source: Any = SimpleNamespace(file=file, line=line)
    return NativeFrame(0x7000, "convolve", "/app/libfoo.so", 0x4C, source)


def test_the_report_shows_the_line_the_instruction_and_the_value(tmp_path: Path) -> None:
    source = tmp_path / "convolve.c"
    source.write_text("\nout[i] = sum;\n")
    record = RECORD._replace(native=(frame(str(source), 2),) * 2, value=struct.pack("d", 2.5), code=b"\xff" * 16)
    lines = [line.strip(" │") for line in render(record, "raise", Ink()).splitlines()]
    at = lines.index("native    libfoo.so: convolve+0x4c, convolve.c:2")
    assert lines[at + 1 : at + 5] == [
        "2 │ out[i] = sum;",
        record.instruction,
        "writing 2.5 (float64)",
        "libfoo.so: convolve+0x4c, convolve.c:2",
    ]


def test_the_document_has_them_as_data() -> None:
    record = RECORD._replace(native=(frame("/app/convolve.c", 12),), value=b"\x01\xff", time=1_000_000_000_000_000_001)
    told = fault_document(record)
    assert told["native"] == [
        {"function": "convolve", "library": "/app/libfoo.so", "offset": 0x4C, "file": "/app/convolve.c", "line": 12}
    ]
    assert (told["value"], told["time"]) == ("01ff", "2001-09-09T01:46:40.000000001Z")


def test_lines_hostile_to_a_terminal_are_escaped() -> None:
    record = RECORD._replace(native=(frame("\x1b[2J\n" * 40, 2),), value=b"\x00", block=None)
    text = render(record, "raise", Ink())
    assert all(character.isprintable() or character == "\n" for character in text)
    assert all(len(line) <= 100 for line in text.splitlines())
