"""What ``memprot run`` tells of the instruction of a fault: its text, its value, its source line, its time."""

import datetime
import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("numpy")

if TYPE_CHECKING:
    from tests.programs.conftest import Runner, Watched

KNOWN = os.uname().machine == "x86_64"
SOURCE = Path(__file__).parent.parent / "native" / "touch.h"
ENDINGS = {
    "recovered": (
        (
            "import misbehave, numpy\n"
            "array = numpy.zeros(3)\n"
            "try: misbehave.write64(array.ctypes.data + array.nbytes, 0x4004000000000000)\n"
            "except Exception as fault: print(type(fault).__name__)\n"
        ),
        "4004000000000000",
        "2.5 (float64)",
    ),
    "deadly": ("import misbehave\nmisbehave.write64(8, 0x2a)\n", "000000000000002a", "42, 0x000000000000002a"),
}


def watch(runner: "Runner", misbehave_path: Path, ending: str) -> "Watched":
    return runner.watch(runner.script(ENDINGS[ending][0]), environment={"PYTHONPATH": str(misbehave_path)})


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(SOURCE.read_text().splitlines(), 1) if text in line)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_document_has_value_instruction_line_and_time(runner: "Runner", misbehave_path: Path, ending: str) -> None:
    before = datetime.datetime.now(datetime.UTC)
    fault = watch(runner, misbehave_path, ending).fault
    value = bytes.fromhex(ENDINGS[ending][1])[::-1].hex()
    assert fault["value"] == (value if KNOWN else None)
    happened = datetime.datetime.fromisoformat(fault["time"])
    assert before <= happened <= datetime.datetime.now(datetime.UTC)
    if importlib.util.find_spec("capstone") is None:
        assert re.fullmatch("([0-9a-f]{2} ){15}[0-9a-f]{2}", fault["instruction"])
    elif KNOWN:
        assert fault["instruction"].startswith("mov qword ptr [r")
    frame: Any = fault["native"][0]
    assert frame["function"] == "touch_write64"
    if importlib.util.find_spec("elftools") is None:
        assert (frame["file"], frame["line"]) == (None, None)
    else:
        assert (frame["file"], frame["line"]) == (str(SOURCE), line_of("access->address = access->value;"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_report_has_them_in_words(runner: "Runner", misbehave_path: Path, ending: str) -> None:
    report = watch(runner, misbehave_path, ending).stderr
    if KNOWN:
        assert f"writing {ENDINGS[ending][2]}\n" in report
    if importlib.util.find_spec("elftools") is not None:
        assert f", touch.h:{line_of('access->address = access->value;')}\n" in report
        assert "│ *(volatile uint64_t *)(uintptr_t)access->address = access->value;\n" in report


def test_logging_and_the_unraisable_hook_stay_silent_where_the_report_tells(
    runner: "Runner", misbehave_path: Path
) -> None:
    script = runner.script(
        "import logging, sys, misbehave, numpy\n"
        "logging.basicConfig(stream=sys.stdout, level=0)\n"
        "sys.unraisablehook = print\n"
        "array = numpy.zeros(3)\n"
        "misbehave.write64(array.ctypes.data + array.nbytes, 1)\n"
        "print('on')\n"
    )
    environment = {"PYTHONPATH": str(misbehave_path)}
    done = runner.watch(script, options=("--on-fault", "log"), environment=environment)
    assert (done.status, done.stdout) == (0, "on\n")
    assert done.stderr.count("0 bytes past the end of `array`") == 1
