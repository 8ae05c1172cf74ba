"""The programs of examples/overrun under ``memprot run``, and every key of the document they leave."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner, Watched

pytest.importorskip("numpy")

EXAMPLES = Path(__file__).parents[2] / "examples" / "overrun"
FAULT = {
    "kind", "access", "key", "size", "address", "distance", "element", "count", "recovered", "signal",
    "object", "python", "native", "thread", "mapping", "instruction", "value", "time", "file", "call", "depth",
}  # fmt: skip
FRAME = {"file", "line", "function"}


def line_of(program: Path, text: str) -> int:
    (line,) = (number for number, line in enumerate(program.read_text().splitlines(), 1) if text in line)
    return line


def watch(runner: "Runner", name: str) -> tuple[Path, "Watched"]:
    program = EXAMPLES / name
    done = runner.watch(str(program))
    assert done.status == 0, done.stderr
    assert "going on" in done.stdout
    return program, done


def assert_contract(document: Any, program: Path) -> None:
    assert document.keys() == {"schema", "argv", "exit", "guarded", "suppressed", "faults"}
    assert (document["schema"], document["argv"], document["exit"]) == (1, [str(program)], 0)
    assert document["guarded"].keys() == {"numpy"}
    assert document["guarded"]["numpy"].keys() >= {"arrays", "bytes"}
    assert document["guarded"]["numpy"]["bytes"] > document["guarded"]["numpy"]["arrays"] > 0
    for fault in document["faults"]:
        assert fault.keys() == FAULT
        assert fault["object"].keys() == {"nbytes", "dtype", "shape", "name", "allocator", "allocated", "freed"}
        assert fault["object"]["allocated"].keys() == {*FRAME, "stack", "native"}
        assert all(frame.keys() == FRAME for frame in (*fault["python"], *fault["object"]["allocated"]["stack"]))
        assert all(frame.keys() == {"function", "library", "offset", "file", "line"} for frame in fault["native"])
        assert fault["thread"].keys() == {"id", "name"}
        assert fault["mapping"].keys() == {"start", "stop", "prot", "path"}
        start, stop = (int(fault["mapping"][key], 16) for key in ("start", "stop"))
        assert start <= int(fault["address"], 16) < stop


def assert_overrun_by_one(fault: Any, program: Path, name: str, length: int, allocation: str, breach: str) -> None:
    assert (fault["kind"], fault["access"], fault["size"], fault["distance"]) == ("overflow", "write", 8, 0)
    assert (fault["count"], fault["recovered"], fault["signal"]) == (1, True, "SIGSEGV")
    block = fault["object"]
    assert (block["nbytes"], block["dtype"], block["shape"], block["name"]) == (8 * length, "float64", [length], name)
    allocated = block["allocated"]
    here = {"file": str(program), "line": line_of(program, allocation), "function": "main"}
    assert {key: allocated[key] for key in FRAME} == here
    assert here in allocated["stack"]
    assert fault["python"][0]["file"] == str(program)
    assert fault["python"][0]["line"] == line_of(program, breach)


def test_memmove_is_told_with_the_array_and_both_lines(runner: "Runner") -> None:
    program, done = watch(runner, "memmove.py")
    assert_contract(done.document, program)
    fault = done.fault
    assert_overrun_by_one(fault, program, "lower_edges", 1001, "lower_edges = np.zeros", "    ctypes.memmove(")
    assert fault["python"][0]["function"] == "main"
    assert fault["thread"]["name"] == "MainThread"
    assert any("libffi" in (frame["library"] or "") for frame in fault["native"])
    assert fault["native"][0]["library"] is not None


def test_the_extension_is_told_with_its_function_and_thread(runner: "Runner") -> None:
    program, done = watch(runner, "convolve.py")
    assert_contract(done.document, program)
    fault = done.fault
    assert_overrun_by_one(fault, program, "smooth", 1001, "smooth = np.zeros", "extension.convolve(")
    assert fault["python"][0]["function"] == "main.<locals>.work"
    assert fault["thread"]["name"] == "convolver"
    assert fault["native"][0]["function"] == "convolve"
    assert Path(fault["native"][0]["library"]).name == "convolve.so"
    assert fault["native"][0]["offset"] > 0
    assert "convolve.so: convolve+0x" in done.stderr
    assert "write of 8 bytes, 0 bytes past the end of `smooth`" in done.stderr


@pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed")
def test_compiled_python_is_told_with_the_array(runner: "Runner") -> None:
    program, done = watch(runner, "njit.py")
    assert_contract(done.document, program)
    assert_overrun_by_one(done.fault, program, "steps", 1001, "steps = np.zeros", "    differences(values, steps)")


@pytest.mark.parametrize("name", ["memmove.py", "convolve.py"])
def test_on_the_left_side_an_overrun_within_the_page_is_found_at_free(runner: "Runner", name: str) -> None:
    done = runner.run(
        [sys.executable, "-m", "memprot", "run", "--side", "left", "--json", "report.json", str(EXAMPLES / name)]
    )
    assert done.status == 1
    assert b"nobody noticed" in done.stderr
    (fault,) = json.loads((runner.folder / "report.json").read_text())["faults"]
    assert (fault["kind"], fault["distance"], fault["signal"]) == ("slack", 0, None)
