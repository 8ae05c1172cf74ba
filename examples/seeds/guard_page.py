"""A guard page behind a buffer, by hand and from ``guarded``: the overflow that is seen, and the one that is not.

By hand: two pages, the second with no access at all. A buffer at the start of the first page is guarded only
against what leaves the page; ``guarded`` moves the buffer up so that its last byte is the page's last byte,
and the first byte too many is a fault.
"""

import ctypes

from memprot import PAGE_SIZE, FaultError, Region, catch_faults, guarded

SIZE = 100


def fill(what: str, address: int, count: int) -> None:
    """Let C code write ``count`` bytes, and tell how far it came."""
    try:
        with catch_faults():
            ctypes.memset(address, ord("A"), count)
    except FaultError as fault:
        print(f"{what}: {fault.access} stopped, {fault.cause}")
    else:
        print(f"{what}: nothing noticed")


def main() -> None:
    with Region(2 * PAGE_SIZE) as pages:
        pages.protect("---", PAGE_SIZE)
        print(f"two pages, {SIZE} bytes wanted, the second page closed:", *(m.prot for m in pages.mappings))
        fill("the buffer", pages.address, SIZE)
        fill("one byte more", pages.address, SIZE + 1)
        fill("the whole page", pages.address, PAGE_SIZE)
        fill("one byte into the guard page", pages.address, PAGE_SIZE + 1)
    block = guarded(SIZE)
    print(f"guarded({SIZE}):")
    fill("the buffer", block.address, SIZE)
    fill("one byte more", block.address, SIZE + 1)
    print("the buffer holds", bytes(block[:]).count(b"A"), "bytes of A")


if __name__ == "__main__":
    main()
