"""Protections: what a program may do with a page.

>>> from memprot.prot import Prot
>>> Prot("r-x")
<Prot.READ|EXEC: 5>
>>> str(Prot.READ | Prot.WRITE)
'rw-'
"""

import os
from enum import IntFlag
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Self

__all__ = ["ACCEPTED", "PAGE_SIZE", "Prot", "as_prot", "effects_on"]

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
    """The page may be used for atomic operations."""
    # The first name of a number is the one that repr() shows.
    if TYPE_CHECKING or _MACHINE != "aarch64":
        SAO = 0x10
        """Strong access ordering (powerpc). Shares its number with BTI."""
        BTI = 0x10
        """Indirect branches may only land where the code says so (ARM). Shares its number with SAO."""
    else:
        BTI = 0x10
        SAO = 0x10
    MTE = 0x20
    """The page holds memory tags (ARM)."""
    GROWSDOWN = 0x01000000
    """mprotect only: the change begins at the start of the growing-down mapping."""
    GROWSUP = 0x02000000
    """mprotect only: the change goes on to the end of the growing-up mapping."""

    if TYPE_CHECKING:

        def __new__(cls, value: int | str) -> Self: ...

    @property
    def effect(self) -> str:
        """What the running machine does with these flags, in a sentence for each.

        >>> from memprot import Prot
        >>> Prot.SEM.effect
        'SEM: mprotect and mmap accept and ignore it.'
        """
        effects = effects_on(_MACHINE)
        known = [f"{name}: {effect}" for name, effect in effects.items() if self & type(self)[name]]
        rest = int(self) & ~sum({int(type(self)[name]) for name in effects})
        unknown = [f"{rest:#x}: mprotect answers EINVAL, mmap ignores it."] if rest else []
        return " ".join([*known, *unknown]) or "NONE: every access faults."

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
            if member.value & rest and member.name in _SHOWN:
                parts.append(str(member.name).lower())
                rest &= ~member.value
        if rest:
            parts.append(hex(rest))
        return "+".join(parts)

    def __format__(self, specification: str) -> str:
        if specification and specification[-1] in _NUMBER_FORMATS:
            return format(int(self), specification)
        return format(str(self), specification)


_REFUSED = "mprotect answers EINVAL, mmap ignores it."
_IGNORED = "mprotect and mmap accept and ignore it."
_EVERYWHERE = {
    "READ": "loads from the page work.",
    "WRITE": "stores to the page work.",
    "EXEC": "instructions in the page can be executed.",
    "SEM": _IGNORED,
    "SAO": _REFUSED,
    "BTI": _REFUSED,
    "MTE": _REFUSED,
    "GROWSDOWN": "mprotect begins at the start of the mapping where that grows down, else it answers EINVAL; "
    "mmap ignores it.",
    "GROWSUP": "mprotect answers EINVAL, because no mapping grows up here; mmap ignores it.",
}
_SPECIAL = {
    "x86_64": {
        "WRITE": "stores to the page work, and loads too.",
        "EXEC": "instructions in the page can be executed, and loads work too; alone and with protection keys in "
        "the CPU, loads fault.",
    },
    "aarch64": {
        "WRITE": "stores to the page work, and loads too.",
        "EXEC": "instructions in the page can be executed; alone, loads fault where the CPU can tell them apart "
        "(EPAN), else they work too.",
        "BTI": "in code, indirect branches land only on instructions made for it, where the CPU has BTI; else EINVAL.",
        "MTE": "the page holds memory tags, where the CPU has MTE and the memory is anonymous or a memory file's; "
        "else EINVAL.",
    },
    "ppc64": {
        "SAO": "stores and loads keep a stronger order, on POWER7 to POWER9; else EINVAL.",
    },
}
_ARCHITECTURES = {"ppc64le": "ppc64"}


def effects_on(architecture: str) -> dict[str, str]:
    """What a machine does with each flag of :class:`Prot`, by the flag's name.

    :param architecture: as ``uname -m`` prints it.

    Flags that share a number are there once, under the name that means something to the machine.

    >>> from memprot.prot import effects_on
    >>> effects_on("x86_64")["MTE"]
    'mprotect answers EINVAL, mmap ignores it.'
    """
    special = _SPECIAL.get(_ARCHITECTURES.get(architecture, architecture), {})
    effects = _EVERYWHERE | special
    del effects["SAO" if "BTI" in special else "BTI"]
    return effects


# The names that mean something here.
_SHOWN = [name for name, effect in effects_on(_MACHINE).items() if effect != _REFUSED]

ACCEPTED: Prot = reduce(or_, (Prot[name] for name in _SHOWN))
"""The flags that mprotect(2) of this architecture does not refuse as unknown."""


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
