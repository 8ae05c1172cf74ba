"""The native frames of a fault name the source line each was compiled from."""

import ctypes
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults
from memprot.faults.debug_information import find_line
from memprot.faults.source_line import SourceLine

SOURCE = """\
__attribute__((noinline)) static void store(volatile char *at)
{
    *at = 7;
}

__attribute__((noinline)) void touch(char *at)
{
    store(at);
    __asm__ volatile("");
}
"""
LINES = {"store": 3, "touch": 8}

pytestmark = pytest.mark.skipif(importlib.util.find_spec("elftools") is None, reason="pyelftools is not installed")


def fault_of(library: Path) -> FaultError:
    touch = ctypes.CDLL(str(library)).touch
    touch.argtypes = (ctypes.c_void_p,)
    with Region(PAGE_SIZE, "r--") as region, pytest.raises(FaultError) as caught, catch_faults():
        touch(region.address)
    return caught.value


def compiled(folder: Path, *options: str) -> Path:
    (folder / "source.c").write_text(SOURCE)
    library = folder / "library.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-g", "-Wl,--build-id", *options, "-o", str(library), "source.c"]
    subprocess.run(command, check=True, cwd=folder)
    return library


def check(fault: FaultError, folder: Path, known: bool = True) -> None:
    found = {frame.function: (frame.file, frame.line) for frame in fault.native}
    for function, line in LINES.items():
        assert found[function] == ((str(folder / "source.c"), line) if known else (None, None))


VERSIONS = pytest.mark.parametrize("version", [4, 5])


@VERSIONS
def test_lines_come_from_the_library_itself(tmp_path: Path, version: int) -> None:
    fault = fault_of(compiled(tmp_path, f"-gdwarf-{version}"))
    check(fault, tmp_path)
    again = pickle.loads(pickle.dumps(fault))
    (tmp_path / "library.so").unlink()
    find_line.cache_clear()
    check(again, tmp_path)
    assert again.native == fault.native
    assert hash(again.native[0]) == hash(fault.native[0])


@VERSIONS
@pytest.mark.parametrize("ranges", [(), ("-ffunction-sections",)], ids=["one range", "ranges"])
def test_lines_are_found_without_the_table_of_addresses(tmp_path: Path, version: int, ranges: tuple[str, ...]) -> None:
    library = compiled(tmp_path, f"-gdwarf-{version}", *ranges)
    subprocess.run(["objcopy", "--remove-section=.debug_aranges", library], check=True)
    check(fault_of(library), tmp_path)


@pytest.mark.parametrize("place", ["beside", "below"])
def test_lines_come_from_a_file_that_the_library_links_to(tmp_path: Path, place: str) -> None:
    library = compiled(tmp_path)
    folder = tmp_path / ".debug" if place == "below" else tmp_path
    folder.mkdir(exist_ok=True)
    debug = folder / "library.debug"
    subprocess.run(["objcopy", "--only-keep-debug", library, debug], check=True)
    subprocess.run(["objcopy", "--strip-debug", f"--add-gnu-debuglink={debug}", library], check=True)
    check(fault_of(library), tmp_path)


def test_lines_come_from_a_file_named_by_the_build_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = compiled(tmp_path)
    notes = subprocess.run(["readelf", "-n", library], check=True, capture_output=True, text=True).stdout
    identity = notes.partition("Build ID: ")[2].split()[0]
    separate = tmp_path / "debug" / ".build-id" / identity[:2]
    separate.mkdir(parents=True)
    subprocess.run(["objcopy", "--only-keep-debug", library, separate / f"{identity[2:]}.debug"], check=True)
    subprocess.run(["strip", "--strip-debug", library], check=True)
    monkeypatch.setattr("memprot.faults.debug_information._SEPARATE", str(tmp_path / "debug"))
    check(fault_of(library), tmp_path)


def test_without_debug_information_there_is_no_line(tmp_path: Path) -> None:
    check(fault_of(compiled(tmp_path, "-g0")), tmp_path, known=False)


def test_without_pyelftools_there_is_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "elftools"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "elftools", None)
    check(fault_of(compiled(tmp_path)), tmp_path, known=False)


@pytest.mark.parametrize("step", range(8))
def test_debug_information_that_makes_no_sense_gives_no_line_and_no_error(tmp_path: Path, step: int) -> None:
    library = compiled(tmp_path)
    data = bytearray(library.read_bytes())
    for position in range(len(data) // 3 + step, len(data), 13):
        data[position] = (data[position] * 7 + step) & 0xFF
    damaged = tmp_path / "damaged.so"
    damaged.write_bytes(data)
    for position in (0, 0x1000, 0x1109, 1 << 40):
        found = find_line(str(damaged), position)
        assert found is None or isinstance(found[1], int)


def test_a_file_that_was_replaced_since_it_was_loaded_is_not_asked(tmp_path: Path) -> None:
    library = compiled(tmp_path)
    touch = ctypes.CDLL(str(library)).touch
    touch.argtypes = (ctypes.c_void_p,)
    (tmp_path / "other").mkdir()
    shutil.copy(compiled(tmp_path / "other", "-DOTHER", "-O0", "-Wl,--build-id=sha1"), tmp_path / "new")
    os.replace(tmp_path / "new", library)
    with Region(PAGE_SIZE, "r--") as region, pytest.raises(FaultError) as caught, catch_faults():
        touch(region.address)
    assert {frame.line for frame in caught.value.native if frame.library == str(library)} == {None}


def test_the_python_interpreter_agrees_with_the_tools_of_the_system(tmp_path: Path) -> None:
    if shutil.which("addr2line") is None:
        pytest.skip("there is no addr2line")
    frames = [frame for frame in fault_of(compiled(tmp_path)).native if frame.line is not None]
    for frame in frames:
        assert isinstance(frame.source, SourceLine)
        command = ["addr2line", "-e", frame.source.library, hex(frame.source.position)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]
        assert os.path.normpath(told) == f"{frame.file}:{frame.line}"
