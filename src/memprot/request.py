"""What a system call was asked to do, in words: the first half of an error's sentence."""

from typing import TYPE_CHECKING

from memprot.flags import Advice
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


def _pkey_mprotect(address: int, length: int, prot: int, pkey: int) -> str:
    return f"pkey_mprotect of {_range(address, length)} to {Prot(prot % 2**64)} with key {pkey}"


def _protect(address: int, length: int, prot: int) -> str:
    return f"protect of {_range(address, length)} to {Prot(prot % 2**64)}"


def _mremap(address: int, old: int, new: int, flags: int, new_address: int | None) -> str:
    place = "" if new_address is None else f" at {address_text(new_address)}"
    return f"mremap of {_range(address, old)} to {new % 2**64} bytes{place} with flags {address_text(flags)}"


def _madvise(address: int, length: int, advice: int) -> str:
    return f"madvise of {_range(address, length)} with {_advice(advice)}"


def _advice(advice: int) -> str:
    known = next((f" ({member.name})" for member in Advice if member == advice), "")
    return f"advice {advice:d}{known}"


def _break(address: int) -> str:
    return f"brk to {address_text(address)}"


def _move_break(n: int) -> str:
    return f"sbrk of {n} bytes"


def _pkey_alloc(flags: int, rights: int) -> str:
    return f"pkey_alloc with flags {address_text(flags)} and rights {address_text(rights)}"


def _pkey_set(key: int, rights: int) -> str:
    return f"pkey_set of key {key} to rights {address_text(rights)}"


def _shm_open(name: str | bytes, flags: int, mode: int) -> str:
    return f"shm_open of {name!r} with flags {address_text(flags)} and mode {mode % 2**64:#o}"


def _process_madvise(pidfd: int, ranges: tuple[object, ...], advice: int, flags: int) -> str:
    what = f"process_madvise of {len(ranges)} ranges of the process of descriptor {pidfd}"
    return f"{what} with {_advice(advice)} and flags {address_text(flags)}"


def _mbind(address: int, length: int, mode: int, nodes: tuple[int, ...], flags: int) -> str:
    policy = f"mode {address_text(mode)}{_nodes(nodes)}"
    return f"mbind of {_range(address, length)} to {policy} with flags {address_text(flags)}"


def _set_mempolicy(mode: int, nodes: tuple[int, ...]) -> str:
    return f"set_mempolicy to mode {address_text(mode)}{_nodes(nodes)}"


def _nodes(nodes: tuple[int, ...]) -> str:
    return f" on nodes {', '.join(map(str, nodes[:8]))}{', ...' * (len(nodes) > 8)}" if nodes else ""


def _get_mempolicy(address: int | None) -> str:
    return "get_mempolicy of the thread" if address is None else f"get_mempolicy of {address_text(address)}"


def _move_pages(pid: int, pages: tuple[int, ...], nodes: tuple[int, ...] | None, flags: int) -> str:
    return f"move_pages of {len(pages)} pages{_nodes(nodes or ())} of process {pid} with flags {address_text(flags)}"


def _set_name(address: int, length: int, name: str | bytes | None) -> str:
    return f"set_name of {_range(address, length)} to {name!r}"


def _of_range(call: str) -> "Callable[..., str]":
    return lambda address, length: f"{call} of {_range(address, length)}"


def _of_range_with_flags(call: str) -> "Callable[..., str]":
    return lambda address, length, flags: f"{call} of {_range(address, length)} with flags {address_text(flags)}"


def _of_flags(call: str) -> "Callable[..., str]":
    return lambda flags: f"{call} with flags {address_text(flags)}"


def _of_name(call: str) -> "Callable[..., str]":
    return lambda name: f"{call} of {name!r}"


def _of_key(call: str) -> "Callable[..., str]":
    return lambda key: f"{call} of key {key}"


def _memfd_create(name: str | bytes, flags: int) -> str:
    return f"memfd_create of {name!r} with flags {address_text(flags)}"


_REQUESTS: "dict[str, Callable[..., str]]" = {
    "mprotect": _mprotect,
    "pkey_mprotect": _pkey_mprotect,
    "mmap": _mmap,
    "protect": _protect,
    "seal": lambda address, length, _: f"seal of {_range(address, length)}",
    "mremap": _mremap,
    "madvise": _madvise,
    "brk": _break,
    "sbrk": _move_break,
    "pkey_alloc": _pkey_alloc,
    "pkey_set": _pkey_set,
    "memfd_create": _memfd_create,
    "shm_open": _shm_open,
    "process_madvise": _process_madvise,
    "mbind": _mbind,
    "set_mempolicy": _set_mempolicy,
    "get_mempolicy": _get_mempolicy,
    "move_pages": _move_pages,
    "set_name": _set_name,
    **{call: _of_range(call) for call in ("munmap", "mlock", "munlock", "mincore")},
    **{call: _of_range_with_flags(call) for call in ("mlock2", "mseal", "msync")},
    **{call: _of_flags(call) for call in ("mlockall", "set_mdwe", "memfd_secret", "personality")},
    **{call: _of_name(call) for call in ("shm_unlink",)},
    **{call: _of_key(call) for call in ("pkey_free", "pkey_get")},
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
