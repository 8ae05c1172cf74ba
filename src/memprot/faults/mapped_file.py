"""The file beneath a page that the kernel could not give: which one, how far it reaches now, and what is wrong."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from memprot.space.mapping import Mapping

__all__ = ["MappedFile", "explain_file", "file_beneath"]

Loss = Literal["short", "full", "broken", "misaligned", "unknown"]

_MISALIGNED: Final = 1  # BUS_ADRALN
_BROKEN_MEMORY: Final = (4, 5)  # BUS_MCEERR_AR, BUS_MCEERR_AO: sigaction(2)


class MappedFile(NamedTuple):
    """A file, as far as a fault of cause ``"bus"`` speaks of it.

    Attributes:
        path: its name, as the kernel knows it; None for memory without a file.
        size: how many bytes it has now; None when it cannot be found by its name or a descriptor.
        position: where in the file the access went.
        stop: where in the file the mapping ends.
        loss: ``"short"`` when the file ends before the page, ``"full"`` when its file system has no room for it,
            ``"broken"`` when the hardware has lost it, ``"misaligned"`` when there is nothing wrong with it but the
            address, ``"unknown"`` otherwise: reading it failed, or nobody can tell.

    >>> MappedFile("/x/y", 4096, 5000, 8192, "short").size
    4096
    """

    path: str | None
    size: int | None
    position: int
    stop: int
    loss: Loss


def file_beneath(mapping: Mapping | None, address: int, code: int, pid: int | None = None) -> MappedFile | None:
    """Look at the file under an address whose page was not given.

    Args:
        mapping: what the address lies in.
        address: where the access went.
        code: the signal's ``si_code``.
        pid: whose mapping it is; our own by default.

    Returns:
        None where nothing is mapped.

    Source: sigaction(2), proc_pid_fd(5), proc_pid_map_files(5).

    >>> file_beneath(None, 0, 2) is None
    True
    """
    if mapping is None:
        return None
    size = None if mapping.inode == 0 else _size(mapping, "self" if pid is None else str(pid))
    position = address - mapping.start + mapping.offset
    loss: Loss = "unknown"
    if code == _MISALIGNED:
        loss = "misaligned"
    elif code in _BROKEN_MEMORY:
        loss = "broken"
    elif size is not None and size <= position:
        loss = "short"
    elif mapping.path is not None and _is_full(mapping.path):
        loss = "full"
    return MappedFile(mapping.path, size, position, mapping.stop - mapping.start + mapping.offset, loss)


def explain_file(file: MappedFile | None, name: str | None = None) -> str:
    """What is wrong, as a clause.

    Args:
        file: as :func:`file_beneath` found it.
        name: what to call it instead of its path.

    >>> explain_file(MappedFile("/x/y", 4096, 5000, 8192, "short"))
    'the file /x/y ends at byte 4096 now, the mapping goes on to 8192'
    """
    if file is None:
        return "the memory cannot be given"
    name = name or ("the memory" if file.path is None else f"the file {file.path}")
    match file.loss:
        case "short":
            return f"{name} ends at byte {file.size} now, the mapping goes on to {file.stop}"
        case "full":
            return f"the file system has no room left for byte {file.position} of {name}"
        case "broken":
            return f"the hardware has lost byte {file.position} of {name}"
        case "misaligned":
            return "the processor was told to forbid accesses that are not aligned"
        case "unknown":
            return f"the kernel cannot give byte {file.position} of {name}: has it become shorter, or its disk failed?"


def _size(mapping: Mapping, process: str) -> int | None:
    if mapping.path is not None and not mapping.deleted:
        size = _size_if_same(mapping.path, mapping)
        if size is not None:
            return size
    # Files without a name may still be open; the kernel shows mapped ones to the privileged only.
    folder = f"/proc/{process}/fd"
    mapped = f"/proc/{process}/map_files/{mapping.start:x}-{mapping.stop:x}"
    try:
        candidates = [f"{folder}/{number}" for number in os.listdir(folder)]
    except OSError:  # no descriptor is left, or /proc is not mounted
        candidates = []
    sizes = (_size_if_same(candidate, mapping) for candidate in (mapped, *candidates))
    return next((size for size in sizes if size is not None), None)


def _size_if_same(path: str, mapping: Mapping) -> int | None:
    try:
        found = os.stat(path)
    except OSError:  # gone, or not ours to look at: unknown
        return None
    device = (os.major(found.st_dev), os.minor(found.st_dev))
    return found.st_size if (found.st_ino, device) == (mapping.inode, mapping.device) else None


def _is_full(path: str) -> bool:
    try:
        return os.statvfs(path).f_bavail == 0
    except OSError:  # a file without a name has no file system that could be asked
        return False
