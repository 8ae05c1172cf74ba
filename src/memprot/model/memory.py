"""What one process has of memory: the state that the calls of the model read and change."""

from typing import TYPE_CHECKING

from memprot.model.bits import PAGE_SHIFT
from memprot.model.keys import Keys, Thread
from memprot.model.limits import Limits, Usage
from memprot.model.mappings import Mappings
from memprot.model.page_tables import PageTables

if TYPE_CHECKING:
    from memprot.model.file import File

__all__ = ["READ_IMPLIES_EXEC", "Memory"]

READ_IMPLIES_EXEC = 0x0400000
"""The bit of personality(2) with which whatever is readable is executable too."""


class Memory:
    """The kernel's ``mm_struct``, and what of the process the rules look at.

    :param limits: see :class:`Limits`.
    :param levels: of the page tables, 4 or 5.
    :param keys: how many protection keys the processor has, 16 or 0.
    :param brk: where the heap begins.
    :param mmap_base: below which mappings without a wanted address are placed.

    :ivar deny_write_execute: the bits of prctl(PR_SET_MDWE).
    :ivar read_implies_execute: whether personality(2) has READ_IMPLIES_EXEC.
    :ivar thread: the thread that makes the calls.

    Source: include/linux/mm_types.h.

    >>> from memprot.model.memory import Memory
    >>> hex(Memory().end)
    '0x7ffffffff000'
    """

    __slots__ = (
        "__weakref__",
        "brk",
        "deny_write_execute",
        "end",
        "keys",
        "levels",
        "limits",
        "mappings",
        "mmap_base",
        "persona",
        "start_brk",
        "tables",
        "thread",
        "usage",
    )

    def __init__(
        self,
        limits: Limits | None = None,
        levels: int = 4,
        keys: int = 16,
        brk: int = 0x555555559000,
        mmap_base: int = 0x7FFFF7FFF000,
    ) -> None:
        if levels not in (4, 5):
            raise ValueError(f"page tables have 4 or 5 levels, not {levels}")
        self.limits = Limits() if limits is None else limits
        self.levels = levels
        self.end = (1 << (47 if levels == 4 else 56)) - 4096
        self.mappings = Mappings()
        self.tables = PageTables()
        self.usage = Usage(self.limits)
        self.keys = Keys(keys)
        self.thread = Thread()
        self.start_brk = self.brk = brk
        self.mmap_base = mmap_base
        self.deny_write_execute = 0
        self.persona = 0

    @property
    def read_implies_execute(self) -> bool:
        return bool(self.persona & READ_IMPLIES_EXEC)

    def file_shrank(self, file: "File") -> None:
        """Drop the pages that lie beyond the end of a file now; guard markers stay (unmap_mapping_range)."""
        for mapping in self.mappings:
            if mapping.file is file:
                beyond = mapping.start + (max(file.pages - mapping.pgoff, 0) << PAGE_SHIFT)
                if beyond < mapping.stop:
                    self.tables.clear(beyond, mapping.stop, guards=False)
