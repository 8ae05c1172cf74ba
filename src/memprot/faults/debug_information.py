"""Debug information: which source line an address of a library was compiled from.

It is read by pyelftools where that is installed. It may lie in the library itself or in a file of its own, as
distributions ship it, under /usr/lib/debug or beside the library.

Source: https://dwarfstd.org (chapter 6.2 of version 5); the "Separate Debug Files" chapter of gdb's manual.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["find_line"]

_SEPARATE = "/usr/lib/debug"
_LINE_TABLES = (".debug_line", ".zdebug_line")


class _Row(NamedTuple):
    """From this address on the code is of this line; of none where ``line`` is 0."""

    address: int
    line: int
    file: int


@lru_cache(maxsize=4096)
def find_line(library: str, position: int) -> tuple[str, int] | None:
    """The source line of an address of a library.

    Args:
        library: the path of the file.
        position: a virtual address in that file.

    Returns:
        The file, as the compiler was given it, and the line from 1 on; None when there is no debug information, it
        makes no sense, or pyelftools is not installed.

    >>> find_line("/nonexistent.so", 0x1000) is None
    True
    """
    try:
        lines = _open(library)
        return None if lines is None else lines.find(position)
    except Exception:  # noqa: BLE001 (nothing in a file is to be trusted, and a report without lines beats none)
        return None


@lru_cache(maxsize=1)  # of a large library it takes tens of megabytes, and frames of one library are neighbours
def _open(library: str) -> _Lines | None:
    from elftools.elf.elffile import ELFFile

    for path in _files_for(library, ELFFile):
        with open(path, "rb") as file:
            elf = ELFFile(file)
            if any(elf.get_section_by_name(name) for name in _LINE_TABLES):
                return _Lines(elf.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False))
    return None


def _files_for(library: str, elf_file: Any) -> Iterator[str]:
    """Where the debug information of a library may lie, those files that are there."""
    yield library
    with open(library, "rb") as file:
        elf = elf_file(file)
        names = [os.path.join(_SEPARATE, ".build-id", own[:2], f"{own[2:]}.debug") for own in _build_ids(elf)]
        link = elf.get_section_by_name(".gnu_debuglink")
        if link is not None:
            name = os.fsdecode(link.data().partition(b"\0")[0])
            folder = os.path.dirname(os.path.realpath(library))
            names += [os.path.join(place, name) for place in (folder, f"{folder}/.debug", f"{_SEPARATE}{folder}")]
    yield from (name for name in names if os.path.isfile(name))


def _build_ids(elf: Any) -> Iterator[str]:
    section = elf.get_section_by_name(".note.gnu.build-id")
    if section is not None:
        yield from (note["n_desc"] for note in section.iter_notes() if note["n_type"] == "NT_GNU_BUILD_ID")


class _Lines:
    """The line tables of one file, each read when an address of its compilation unit is first asked for."""

    def __init__(self, dwarf: Any) -> None:
        self.dwarf = dwarf
        self.ranges = dwarf.get_aranges()
        self.tables: dict[int, tuple[Any, list[_Row]]] = {}

    def find(self, position: int) -> tuple[str, int] | None:
        unit = self._unit_at(position)
        if unit is None:
            return None
        if unit.cu_offset not in self.tables:
            program = self.dwarf.line_program_for_CU(unit)
            self.tables[unit.cu_offset] = program, _rows(program)
        program, rows = self.tables[unit.cu_offset]
        at = bisect_right(rows, position, key=_address_of) - 1
        if at < 0 or not rows[at].line:
            return None
        return _path(unit, program.header, rows[at].file), rows[at].line

    def _unit_at(self, position: int) -> Any:
        if self.ranges is not None and self.ranges.entries:
            offset = self.ranges.cu_offset_at_addr(position)
            return None if offset is None else self.dwarf.get_CU_at(offset)
        # Not every compiler leaves the table of what lies where.
        return next((unit for unit in self.dwarf.iter_CUs() if _holds(unit, position)), None)


def _address_of(row: _Row) -> int:
    return row.address


def _rows(program: Any) -> list[_Row]:
    states = (entry.state for entry in program.get_entries() if entry.state is not None)
    # Of two rows for one address the later counts; where a sequence ends, the next may begin.
    rows = {state.address: _Row(state.address, state.line, state.file) for state in states if not state.end_sequence}
    for entry in program.get_entries():
        if entry.state is not None and entry.state.end_sequence:
            rows.setdefault(entry.state.address, _Row(entry.state.address, 0, 0))
    return sorted(rows.values())


def _holds(unit: Any, position: int) -> bool:
    attributes = unit.get_top_DIE().attributes
    base = attributes["DW_AT_low_pc"].value if "DW_AT_low_pc" in attributes else 0
    if "DW_AT_high_pc" in attributes:
        high = attributes["DW_AT_high_pc"]
        stop = high.value if high.form == "DW_FORM_addr" else base + high.value
        return bool(base <= position < stop)
    if "DW_AT_ranges" not in attributes:
        return False
    lists = unit.dwarfinfo.range_lists()
    for entry in lists.get_range_list_at_offset(attributes["DW_AT_ranges"].value, unit):
        if hasattr(entry, "base_address"):
            base = entry.base_address
            continue
        shift = 0 if getattr(entry, "is_absolute", False) else base
        if entry.begin_offset + shift <= position < entry.end_offset + shift:
            return True
    return False


def _path(unit: Any, header: Any, number: int) -> str:
    """The path of a file of a line table; its numbers begin at 0 from version 5 of DWARF on."""
    first = 0 if header["version"] >= 5 else 1
    entry = header["file_entry"][number - first]
    folders = header["include_directory"]
    folder = "" if entry.dir_index < first else os.fsdecode(folders[entry.dir_index - first])
    compiled_in = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
    start = "" if compiled_in is None else os.fsdecode(compiled_in.value)
    return os.path.normpath(os.path.join(start, folder, os.fsdecode(entry.name)))
