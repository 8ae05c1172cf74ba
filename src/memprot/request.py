"""What a system call was asked to do, in words: the first half of an error's sentence."""

from typing import TYPE_CHECKING

from memprot.prot import Prot

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["address_text", "describe"]


def address_text(word: int) -> str:
    """An address as text, whatever int stood for it.

    >>> from memprot.request import address_text
    >>> address_text(-4096)
    '0xfffffffffffff000'
    """
    return hex(word % 2**64)


def _range(start: int, length: int) -> str:
    return f"{length % 2**64} bytes at {address_text(start)}"


def _mprotect(address: int, length: int, prot: int) -> str:
    return f"mprotect of {_range(address, length)} to {Prot(prot % 2**64)}"


def _mmap(address: int, length: int, prot: int, flags: int, fd: int, offset: int) -> str:
    place = f"{length % 2**64} bytes" if address == 0 else _range(address, length)
    source = f"descriptor {fd} from offset {offset}" if fd != -1 else "no file"
    return f"mmap of {place} as {Prot(prot % 2**64)} with flags {address_text(flags)} and {source}"


def _munmap(address: int, length: int) -> str:
    return f"munmap of {_range(address, length)}"


def _madvise(address: int, length: int, advice: int) -> str:
    return f"madvise of {_range(address, length)} with advice {advice:d}"


def _memfd_create(name: str | bytes, flags: int) -> str:
    return f"memfd_create of {name!r} with flags {address_text(flags)}"


_REQUESTS: "dict[str, Callable[..., str]]" = {
    "mprotect": _mprotect,
    "mmap": _mmap,
    "munmap": _munmap,
    "madvise": _madvise,
    "memfd_create": _memfd_create,
}


def describe(call: str | None, arguments: tuple[object, ...]) -> str:
    """What was asked for, in a few words.

    :param call: the name of the call; None when it is unknown.
    :param arguments: in the order of its man page; empty when they are unknown.

    >>> from memprot.request import describe
    >>> describe("mprotect", (0x10000, 4096, 1))
    'mprotect of 4096 bytes at 0x10000 to r--'
    """
    if call is None:
        return "a memory system call"
    describe = _REQUESTS.get(call)
    return call if describe is None or not arguments else describe(*arguments)
