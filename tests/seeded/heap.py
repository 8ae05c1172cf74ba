"""Bugs in C and C++ that call malloc and free themselves."""

from typing import Any

from tests.seeded.bug import seeded

QUARANTINE = ("--quarantine", "1MiB")


@seeded("heap.c", "overflow", "write", distance=0, size=1, guard="malloc")
def size_that_wraps(code: Any) -> None:
    """300 * 300 bytes are counted in 16 bits."""
    code.invert(300, 300)  # allocated, fault


@seeded("heap.c", "double-free", "write", distance=None, guard="malloc")
def freed_twice(code: Any) -> None:
    """An error path frees what is freed at the end."""
    code.parse(0)  # allocated, freed, fault


@seeded("heap.c", "wild-free", "write", distance=8, guard="malloc")
def freed_behind_the_header(code: Any) -> None:
    """free gets the address of the text, not of the block."""
    code.release_text()  # allocated, fault


@seeded("heap.c", "use-after-free", "read", distance=8, size=8, guard="malloc", options=QUARANTINE)
def read_after_free(code: Any) -> None:
    """The next node is read from the one that was freed."""
    code.free_list(3)  # allocated, freed, fault


@seeded("heap.c", "use-after-free", "write", distance=60, size=4, guard="malloc", options=QUARANTINE)
def pointer_from_before_realloc(code: Any) -> None:
    """A pointer into the block is used after realloc has moved it."""
    code.grow()  # allocated, freed, fault


@seeded("heap.c", "slack", "write", distance=0, size=1, guard="malloc")
def no_room_for_the_terminator(code: Any) -> None:
    """A copy of 20 letters is allocated without its terminator, which falls into padding."""
    code.duplicate(b"abcdefghijklmnopqrst")  # allocated, fault


@seeded("vector.cpp", "overflow", "read", distance=0, size=8, guard="malloc")
def iterator_past_the_end(code: Any) -> None:
    """An iterator over std::vector goes one too far."""
    code.mean(64)  # allocated, fault
