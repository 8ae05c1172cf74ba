"""Addresses of this process and of files have their functions' names."""

import ctypes
import errno
import sys
from pathlib import Path

import pytest

from memprot import _native


def address_of(function: str) -> int:
    address = ctypes.cast(getattr(ctypes.CDLL(None), function), ctypes.c_void_p).value
    assert address is not None
    return address


def loaded_files() -> dict[str, tuple[int, int, int]]:
    """Path of each file mapped executable, with (start, stop, offset)."""
    found = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if "x" in fields[1] and len(fields) == 6:
            start, stop = (int(part, 16) for part in fields[0].split("-"))
            found[fields[5]] = (start, stop, int(fields[2], 16))
    return found


def test_a_function_of_libc_has_its_name_library_and_offset() -> None:
    function, library, offset, _ = _native.symbol(address_of("qsort") + 4)
    assert function == "qsort"
    assert library is not None
    assert "libc" in library
    assert offset == 4


def test_a_static_function_of_an_extension_has_its_name() -> None:
    assert _native.__file__ is not None
    start, stop, _ = loaded_files()[_native.__file__]
    names = {_native.symbol(address)[0] for address in range(start, stop, 8)}
    assert "symbol_in_file" in names


def test_data_made_at_run_time_has_no_symbol() -> None:
    data = ctypes.create_string_buffer(100)
    assert _native.symbol(ctypes.addressof(data)) == (None, None, None, None)


def test_an_offset_in_a_mapped_file_gives_the_symbol_of_the_address() -> None:
    address = address_of("qsort") + 4
    path, offset = next(
        (path, address - start + offset)
        for path, (start, stop, offset) in loaded_files().items()
        if start <= address < stop
    )
    assert _native.symbol_at_file_offset(path, offset)[:3] == ("qsort", path, 4)
    assert _native.symbol_at_file_offset(path, offset)[3] == _native.symbol(address)[3]


def test_a_path_object_is_taken_and_an_address_without_function_keeps_its_offset() -> None:
    assert _native.symbol_in_file(Path(sys.executable), 1)[0] is None
    assert _native.symbol_in_file(sys.executable, 1)[2] is not None


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        _native.symbol_in_file("/nonexistent/library.so", 0)
    assert caught.value.filename == "/nonexistent/library.so"


def test_a_file_that_is_no_elf_file_is_an_exec_format_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no library")
    with pytest.raises(OSError, match="text") as caught:
        _native.symbol_in_file(tmp_path / "text", 0)
    assert caught.value.errno == errno.ENOEXEC


@pytest.mark.parametrize("address", [None, True, "0x1000", 1.0])
def test_an_address_is_an_int(address: object) -> None:
    with pytest.raises(TypeError):
        _native.symbol(address)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", [-1, 1 << 64])
def test_an_address_has_64_bits(address: int) -> None:
    with pytest.raises(OverflowError):
        _native.symbol(address)
