"""A protected() scope on one page, against the two calls of mprotect that it makes, in C."""

import mmap
import tempfile

import numpy
from measure import Row, interleaved
from mprotect_toggle import compiled

from memprot import PAGE_SIZE, Region, catch_faults, protected
from memprot._native import buffer_range

SCOPES = 100
RUNS = 501


def rows() -> list[Row]:
    memory = mmap.mmap(-1, 3 * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = b"x" * len(memory)
    array = numpy.frombuffer(memory, "u1")[PAGE_SIZE : 2 * PAGE_SIZE]
    page = buffer_range(array)[0]
    region = Region(3 * PAGE_SIZE)
    region[:] = b"x" * len(region)

    def scopes() -> None:
        for _ in range(SCOPES):
            with protected(array, "r--"):
                pass

    def scopes_of_region() -> None:
        for _ in range(SCOPES):
            with region.protected("r--", PAGE_SIZE, 2 * PAGE_SIZE):
                pass

    with tempfile.TemporaryDirectory() as folder:
        library = compiled(folder)

        def in_c() -> None:
            library.toggle(page, PAGE_SIZE, SCOPES)

        with catch_faults():  # holds the handlers that a scope needs
            inside, two_calls, _ = interleaved(scopes, in_c, RUNS)
            of_region, two_again, _ = interleaved(scopes_of_region, in_c, RUNS)
        region.close()
        alone, two_more, _ = interleaved(scopes, in_c, RUNS)
    return [
        Row("protected() scope of one page within catch_faults()", inside / SCOPES, two_calls / SCOPES, 2.2),
        Row("Region.protected() scope of one page", of_region / SCOPES, two_again / SCOPES, None),
        Row("protected() scope, nothing else of memprot in use", alone / SCOPES, two_more / SCOPES, 2.2),
    ]


if __name__ == "__main__":
    from measure import show

    show(rows())
