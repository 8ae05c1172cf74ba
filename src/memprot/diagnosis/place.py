"""Words for places and amounts of memory, the same in every sentence."""

from memprot._native import Mapping
from memprot.prot import Prot

__all__ = ["amount", "named", "span", "words"]


def span(start: int, stop: int) -> str:
    """A range.

    >>> from memprot.diagnosis.place import span
    >>> span(0x1000, 0x2000)
    '0x1000-0x2000'
    """
    return f"{start:#x}-{stop:#x}"


def named(mapping: Mapping) -> str:
    """A mapping: where, what may be done with it, and what it is.

    >>> from memprot import Mapping
    >>> from memprot.diagnosis.place import named
    >>> named(Mapping(0x1000, 0x2000, "r--", path="/bin/true"))
    'the mapping 0x1000-0x2000 (r--, private, /bin/true)'
    """
    sharing = "shared" if mapping.shared else "private"
    return f"the mapping {span(mapping.start, mapping.stop)} ({mapping.prot}, {sharing}, {mapping.path or 'no file'})"


def words(prot: Prot) -> str:
    """A protection as a list of verbs' names.

    >>> from memprot.diagnosis.place import words
    >>> from memprot.prot import Prot
    >>> words(Prot.WRITE | Prot.EXEC)
    'writable and executable'
    """
    names = {Prot.READ: "readable", Prot.WRITE: "writable", Prot.EXEC: "executable"}
    return " and ".join(name for bit, name in names.items() if prot & bit)


def amount(size: int) -> str:
    """An amount of memory.

    >>> from memprot.diagnosis.place import amount
    >>> amount(4096), amount(3 << 20), amount(1000)
    ('4 KiB', '3 MiB', '1000 bytes')
    """
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 10 << shift or (size >= 1 << shift and size % (1 << shift) == 0):
            return f"{size >> shift} {unit}"
    return f"{size} bytes"
