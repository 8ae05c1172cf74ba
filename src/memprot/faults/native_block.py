"""The block of a record, as C tells it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

__all__ = ["ALLOCATORS", "NativeBlock", "NativeOrigin", "allocator_name"]

Allocator = Literal["numpy", "raw", "mem", "obj", "malloc"]

ALLOCATORS: Final[tuple[Allocator, ...]] = get_args(Allocator)
"""Who hands out guarded blocks, as C numbers them (enum memprot_guard_owner)."""

NOBODY: Final = -1


class NativeOrigin(NamedTuple):
    """Where a block was handed out, or taken back.

    Attributes:
        python: the number of the Python stack; 0 when unknown.
        native: the number of the native one; 0 when unknown.
        thread: the kernel's number of the thread; 0 when unknown.

    >>> NativeOrigin(thread=4242)
    NativeOrigin(python=0, native=0, thread=4242)
    """

    python: int = 0
    native: int = 0
    thread: int = 0


class NativeBlock(NamedTuple):
    """What an address belongs to.

    Attributes:
        address: of the first byte.
        size: in bytes.
        allocated: where it was handed out.
        freed: where it was freed, if it was.
        is_freed: whether it was.
        owner: the number of who handed it out; below 0 for memory of no guard pool.

    >>> NativeBlock(0x1000, 80).is_freed
    False
    """

    address: int
    size: int
    allocated: NativeOrigin = NativeOrigin()
    freed: NativeOrigin = NativeOrigin()
    is_freed: bool = False
    owner: int = NOBODY


def allocator_name(owner: int) -> Allocator | None:
    """Who handed a block out.

    >>> allocator_name(0), allocator_name(-1)
    ('numpy', None)
    """
    return ALLOCATORS[owner] if 0 <= owner < len(ALLOCATORS) else None
