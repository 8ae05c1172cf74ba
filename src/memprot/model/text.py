"""The mappings as /proc/PID/maps writes them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memprot.model.mapping import Mapping
    from memprot.model.memory import Memory

__all__ = ["maps_text"]

_NAME_COLUMN = 73


def maps_text(memory: "Memory") -> str:
    """A line for each mapping, to the letter as the kernel writes it.

    Source: show_map_vma, fs/proc/task_mmu.c.

    >>> from memprot.model.mapping import Mapping
    >>> from memprot.model.memory import Memory
    >>> from memprot.model.text import maps_text
    >>> memory = Memory()
    >>> memory.mappings.insert(Mapping(0x1000, 0x3000, 3, 1))
    >>> maps_text(memory)
    '00001000-00003000 rw-p 00000000 00:00 0 \\n'
    """
    return "".join(_line(memory, mapping) for mapping in memory.mappings)


def _line(memory: "Memory", mapping: "Mapping") -> str:
    file = mapping.file
    (major, minor), inode = ((0, 0), 0) if file is None else (file.device, file.inode)
    front = (
        f"{mapping.start:08x}-{mapping.stop:08x} {mapping.permissions} {mapping.offset:08x} "
        f"{major:02x}:{minor:02x} {inode} "
    )
    name = _name(memory, mapping)
    return f"{front:<{_NAME_COLUMN - 1}} {name}\n" if name else f"{front}\n"


def _name(memory: "Memory", mapping: "Mapping") -> str:
    if mapping.file is not None:
        return mapping.file.name.replace("\n", "\\012")
    if mapping.start < memory.brk and mapping.stop > memory.start_brk:
        return "[heap]"
    return ""
