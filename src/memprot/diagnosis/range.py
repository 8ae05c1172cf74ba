"""What can be wrong with a range of addresses."""

import errno
import os
from functools import cache
from typing import TYPE_CHECKING

import memprot._native as _native
from memprot.diagnosis.place import amount, named, span
from memprot.diagnosis.refusal import Refusal
from memprot.prot import PAGE_SIZE
from memprot.reason import Reason

if TYPE_CHECKING:
    from memprot._native import Mapping
    from memprot.diagnosis.process import Process

__all__ = [
    "bad_argument",
    "beyond_the_last",
    "ends_outside",
    "first_hole",
    "hole",
    "mapped_parts",
    "misaligned",
    "no_length",
    "outside",
    "special_mapping",
    "whole_pages",
    "wraps",
]

_HALF = 1 << 63


def misaligned(address: int, what: str = "address") -> Refusal:
    """A number that is no multiple of the page size.

    >>> from memprot.diagnosis.range import misaligned
    >>> misaligned(4097).hint
    'begin where a page begins'
    """
    below = address - address % PAGE_SIZE
    return Refusal(
        errno.EINVAL,
        Reason.MISALIGNED,
        f"the {what} {address:#x} is no multiple of the page size ({PAGE_SIZE}), as {below:#x} is",
        "begin where a page begins",
    )


def wraps(address: int, length: int, number: int = errno.ENOMEM) -> Refusal:
    """A range that ends beyond the last address.

    >>> from memprot.diagnosis.range import wraps
    >>> wraps(4096, 2**64 - 1).reason
    <Reason.RANGE_WRAPS: 'range_wraps'>
    """
    return Refusal(
        number,
        Reason.RANGE_WRAPS,
        f"{length} bytes from {address:#x} on end beyond the last address",
        "check the length: a negative number is a huge one to the kernel",
    )


def hole(start: int, stop: int, number: int = errno.ENOMEM) -> Refusal:
    """A part of a range where nothing is mapped.

    >>> from memprot.diagnosis.range import hole
    >>> hole(0x1000, 0x2000).explanation
    'nothing is mapped at 0x1000-0x2000'
    """
    if beyond_the_last(start):
        return Refusal(
            number,
            Reason.OUTSIDE,
            f"{span(start, stop)} lies beyond the addresses a program can have",
            "check the address",
            start,
            stop,
        )
    return Refusal(
        number,
        Reason.HOLE,
        f"nothing is mapped at {span(start, stop)}",
        "map it first, or leave it out; memprot.AddressSpace lists what is mapped",
        start,
        stop,
    )


def first_hole(process: "Process", start: int, stop: int) -> tuple[int, int] | None:
    """The first part of a range where nothing is mapped, or None.

    >>> from memprot.diagnosis.process import Process
    >>> from memprot.diagnosis.range import first_hole
    >>> first_hole(Process(), 0, 4096)
    (0, 4096)
    """
    at = start
    while at < stop:
        mapping = process.next_mapping(at)
        if mapping is None or mapping.start > at:
            return at, stop if mapping is None else min(mapping.start, stop)
        at = mapping.stop
    return None


def mapped_parts(process: "Process", start: int, stop: int) -> tuple[tuple[int, int], ...]:
    """The parts of a range where something is mapped, neighbours as one.

    >>> from memprot.diagnosis.process import Process
    >>> from memprot.diagnosis.range import mapped_parts
    >>> mapped_parts(Process(), 0, 4096)
    ()
    """
    parts: list[tuple[int, int]] = []
    at = start
    while at < stop and (mapping := process.next_mapping(at)) is not None and mapping.start < stop:
        part = max(mapping.start, start), min(mapping.stop, stop)
        if parts and parts[-1][1] == part[0]:
            part = parts.pop()[0], part[1]
        parts.append(part)
        at = mapping.stop
    return tuple(parts)


def beyond_the_last(address: int) -> bool:
    """Whether no program can have an address, on any machine of this architecture.

    >>> from memprot.diagnosis.range import beyond_the_last
    >>> beyond_the_last(0x1000), beyond_the_last(2**64 - 4096)
    (False, True)
    """
    return address >= _HALF or (address >= 1 << 47 and address >= _last())


@cache
def _last() -> int:
    if os.uname().machine != "x86_64":
        return 1 << 52
    return (1 << 56 if b" la57 " in _native.read_small_file("/proc/cpuinfo") else 1 << 47) - PAGE_SIZE


def whole_pages(length: int) -> int:
    """A length rounded up to whole pages.

    >>> from memprot import PAGE_SIZE
    >>> from memprot.diagnosis.range import whole_pages
    >>> whole_pages(1) == PAGE_SIZE
    True
    """
    return -(-length // PAGE_SIZE) * PAGE_SIZE


def bad_argument(number: int, said: str, hint: str) -> Refusal:
    """An argument that the kernel does not take, for a reason of its own.

    >>> from memprot.diagnosis.range import bad_argument
    >>> bad_argument(22, "the length is 0", "ask for more").reason
    <Reason.BAD_ARGUMENT: 'bad_argument'>
    """
    return Refusal(number, Reason.BAD_ARGUMENT, said, hint)


def no_length(number: int) -> Refusal:
    """A length of 0 where there has to be something.

    >>> from memprot.diagnosis.range import no_length
    >>> no_length(22).explanation
    'the length is 0'
    """
    return bad_argument(number, "the length is 0", "ask for at least one byte")


def outside(number: int, start: int, length: int) -> Refusal:
    """A range that no program can have.

    >>> from memprot.diagnosis.range import outside
    >>> outside(22, 1 << 63, 4096).reason
    <Reason.OUTSIDE: 'outside'>
    """
    return Refusal(
        number,
        Reason.OUTSIDE,
        f"{amount(length)} from {start:#x} on end beyond the addresses a program can have",
        "check the address and the length",
        start,
        min(start + length, 2**64 - 1),
    )


def ends_outside(start: int, length: int) -> bool:
    """Whether a range ends beyond the addresses that a program can have.

    >>> from memprot.diagnosis.range import ends_outside
    >>> ends_outside(0, 1 << 62), ends_outside(0, 4096)
    (True, False)
    """
    return length > 0 and beyond_the_last(start + whole_pages(length) - 1)


def special_mapping(number: int, mapping: "Mapping", what: str) -> Refusal:
    """A mapping of a kind with which something cannot be done.

    :param what: as a verb.

    >>> from memprot import Mapping
    >>> from memprot.diagnosis.range import special_mapping
    >>> special_mapping(22, Mapping(0x1000, 0x2000, "r--"), "grow").explanation
    'the mapping 0x1000-0x2000 (r--, private, no file) cannot grow'
    """
    return Refusal(
        number,
        Reason.SPECIAL_MAPPING,
        f"{named(mapping)} cannot {what}",
        "leave it as it is",
        mapping.start,
        mapping.stop,
        mapping,
    )
