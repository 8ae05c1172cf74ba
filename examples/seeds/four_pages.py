"""Four pages, the third of them read-only, and a walk that writes every byte upward until it is stopped.

The program that the manual page of mprotect(2) ends with, told as a loop: the first two pages take every
byte, and the walk stops at the first byte of the third. The same walk downward stops at its last one.
"""

from collections.abc import Iterable

from memprot import PAGE_SIZE, FaultError, Prot, Region, calls


def walk(pages: Region, direction: str, offsets: Iterable[int]) -> None:
    written = 0
    try:
        for offset in offsets:
            pages[offset] = ord("a")
            written += 1
    except FaultError as fault:
        if fault.offset is None:
            raise
        page, byte = divmod(fault.offset, PAGE_SIZE)
        place = {0: "the first", PAGE_SIZE - 1: "the last"}.get(byte, f"not the first and not the last ({byte})")
        print(f"{direction}: pages written: {written / PAGE_SIZE:g}; stopped at {place} byte of page {page + 1}")
    else:
        print(f"{direction}: nothing stopped it")


def main() -> None:
    with Region(4 * PAGE_SIZE) as pages:
        calls.mprotect(pages.address + 2 * PAGE_SIZE, PAGE_SIZE, Prot.READ)
        print("protections from bottom to top:", *(mapping.prot for mapping in pages.mappings))
        walk(pages, "upward", range(len(pages)))
        walk(pages, "downward", reversed(range(len(pages))))


if __name__ == "__main__":
    main()
