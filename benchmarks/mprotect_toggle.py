"""One mprotect toggle through memprot.calls, against the same loop in C and against ctypes."""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from measure import Row, interleaved

from memprot import PAGE_SIZE, Prot, calls
from memprot.flags import MapFlag

TOGGLES = 200
RUNS = 1001

SOURCE = """
#include <sys/mman.h>
void toggle(void *page, long size, long count) {
    for (long i = 0; i < count; i++) {
        mprotect(page, size, PROT_READ);
        mprotect(page, size, PROT_READ | PROT_WRITE);
    }
}
"""


def compiled(folder: str) -> ctypes.CDLL:
    """The loop in C, as a library."""
    library = Path(folder) / "toggle.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=SOURCE.encode(), check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.toggle.argtypes = (ctypes.c_void_p, ctypes.c_long, ctypes.c_long)
    return loaded


def toggle(mprotect: Callable[[int, int, int], object], page: int, size: int, read: int, write: int) -> None:
    """The loop in Python."""
    for _ in range(TOGGLES):
        mprotect(page, size, read)
        mprotect(page, size, write)


def rows() -> list[Row]:
    flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS
    size = PAGE_SIZE
    # A page of its own, so that a toggle neither splits nor merges mappings.
    outer = calls.mmap(0, 3 * size, Prot.NONE, flags)
    page = outer + size
    read, write = int(Prot.READ), int(Prot.READ | Prot.WRITE)
    calls.mprotect(page, size, write)
    ctypes.memset(page, 1, size)

    def ours() -> None:
        toggle(calls.mprotect, page, size, read, write)

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def by_ctypes() -> None:
        toggle(libc.mprotect, page, size, read, write)

    with tempfile.TemporaryDirectory() as folder:
        library = compiled(folder)

        def in_c() -> None:
            library.toggle(page, size, TOGGLES)

        mine, floor, _ = interleaved(ours, in_c, RUNS)
        foreign, floor_again, _ = interleaved(by_ctypes, in_c, RUNS)
    calls.munmap(outer, 3 * size)
    overhead, foreign_overhead = mine - floor, foreign - floor_again
    return [
        Row("calls.mprotect toggle, against C", mine / TOGGLES, floor / TOGGLES, 1.08),
        Row(
            "its overhead over C, against that of ctypes",
            overhead / TOGGLES,
            foreign_overhead / TOGGLES,
            1 / 8,
        ),
    ]


if __name__ == "__main__":
    from measure import show

    show(rows())
