"""Protections: what a program may do with a page.

>>> from memprot.prot import Prot
>>> Prot("r-x")
<Prot.READ|EXEC: 5>
>>> str(Prot.READ | Prot.WRITE)
'rw-'
"""

import os
from enum import IntFlag
from typing import TYPE_CHECKING, Self

__all__ = ["PAGE_SIZE", "Prot", "as_prot"]

PAGE_SIZE: int = os.sysconf("SC_PAGE_SIZE")
"""The bytes of a page, the smallest piece of memory that has a protection of its own."""

_MACHINE = os.uname().machine
_LETTERS = "rwx"
_ACCEPTED = "three letters as in '---', 'r-x' or 'rwx', and perhaps more flags as in 'r--+growsdown'"
_NUMBER_FORMATS = "bcdoxXneEfFgG%"


class Prot(IntFlag):
    """The protection of a page, as mprotect(2) and mmap(2) take it.

    ``Prot("r-x")`` reads the form that /proc/PID/maps uses and ``str()`` writes it. Flags beyond the three
    letters are appended: ``"r--+growsdown"``. As a number it is exactly what the kernel gets.

    :raises ValueError: for a string of another form; says what is accepted.

    Source: mprotect(2), include/uapi/asm-generic/mman-common.h.

    >>> from memprot import Prot
    >>> Prot("rw-") is Prot.READ | Prot.WRITE
    True
    >>> f"{Prot.NONE} {Prot.EXEC:#x}"
    '--- 0x4'
    """

    NONE = 0
    """No access."""
    READ = 0x1
    """The page can be read."""
    WRITE = 0x2
    """The page can be written; on most processors that includes reading."""
    EXEC = 0x4
    """The page can be executed."""
    SEM = 0x8
    """The page may be used for atomic operations; taken and ignored."""
    if _MACHINE.startswith("ppc"):
        SAO = 0x10
        """Strong access ordering (powerpc)."""
    if _MACHINE == "aarch64":
        BTI = 0x10
        """Indirect branches may only land where the code says so (ARM)."""
        MTE = 0x20
        """The page holds memory tags (ARM)."""
    GROWSDOWN = 0x01000000
    """mprotect only: the change begins at the start of the growing-down mapping."""
    GROWSUP = 0x02000000
    """mprotect only: the change goes on to the end of the growing-up mapping."""

    if TYPE_CHECKING:

        def __new__(cls, value: int | str) -> Self: ...

    @classmethod
    def _missing_(cls, value: object) -> object:
        if isinstance(value, str):
            return cls._parse(value)
        return super()._missing_(value)

    @classmethod
    def _parse(cls, text: str) -> "Prot":
        letters, *names = text.split("+")
        if len(letters) != 3 or any(
            given not in (letter, "-") for given, letter in zip(letters, _LETTERS, strict=True)
        ):
            raise ValueError(f"{text!r} is no protection: write {_ACCEPTED}")
        value = sum(1 << bit for bit, given in enumerate(letters) if given != "-")
        for name in names:
            value |= cls._named(name, text)
        return cls(value)

    @classmethod
    def _named(cls, name: str, text: str) -> int:
        member = cls.__members__.get(name.upper()) if name.islower() else None
        if member is not None and member > cls.EXEC:
            return int(member)
        if name.startswith("0x"):
            try:
                return int(name, 16)
            except ValueError:
                pass  # the next line says more than this one could
        raise ValueError(f"{text!r} is no protection: there is no flag {name!r}; write {_ACCEPTED}")

    def __str__(self) -> str:
        value = int(self)
        parts = ["".join(letter if value >> bit & 1 else "-" for bit, letter in enumerate(_LETTERS))]
        rest = value & ~0x7
        for member in type(self):
            if member.value & rest:
                parts.append(str(member.name).lower())
                rest &= ~member.value
        if rest:
            parts.append(hex(rest))
        return "+".join(parts)

    def __format__(self, specification: str) -> str:
        if specification and specification[-1] in _NUMBER_FORMATS:
            return format(int(self), specification)
        return format(str(self), specification)


def as_prot(value: Prot | str | int) -> Prot:
    """The :class:`Prot` that a caller means.

    :param value: a Prot, a string such as ``"r-x"``, or the kernel's number.
    :raises TypeError: for anything else; bool, float and None too.
    :raises ValueError: for a string of another form, or a negative number.

    >>> from memprot.prot import as_prot
    >>> as_prot(5)
    <Prot.READ|EXEC: 5>
    """
    if isinstance(value, Prot):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"a protection must be a Prot, a string such as 'r-x' or an int, not {type(value).__name__}")
    if isinstance(value, int) and value < 0:
        raise ValueError(f"a protection is a set of flags and cannot be negative, as {value} is")
    return Prot(value)
