"""A blocked write of foreign code: from the fault to the exception, with the memory restored.

The floor is C that makes the kernel do the same work, without a record, a stack or an exception; on the very same
page where it can, because what a mapping costs depends on its neighbours. A second comparison blocks one ``memset``
of 1000 pages, against as many faults of one page each.
"""

import ctypes
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Row, interleaved

from memprot import PAGE_SIZE, FaultError, Region, catch_faults, guarded

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTS = 50
PAGES = 1000
RUNS = 201
RUNS_OF_MANY_PAGES = 41
PROMISED = 1.5e-6  # seconds for each of many pages

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum backing { PRIVATE, SHARED, GUARD };
static enum backing backing;
static char *page, *aside;
static size_t size;
static int own_memory, file;
static void *(*volatile set)(void *, int, size_t) = memset;

static void open_page(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    if (backing == PRIVATE) {
        memcpy(aside, page, size);
        mprotect(page, size, PROT_READ | PROT_WRITE);
    } else if (backing == SHARED) {
        mmap(page, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0);
    } else {
        madvise(page, size, 103);
    }
}

static void close_page(void) {
    if (backing == PRIVATE) {
        mprotect(page, size, PROT_READ);
        if (pwrite(own_memory, aside, size, (off_t)page) < 0)
            _exit(1);
    } else if (backing == SHARED) {
        mmap(page, size, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
    } else {
        madvise(page, size, 102);
    }
}

void prepare(int which, char *where, size_t bytes) {
    backing = which;
    page = where;
    size = bytes;
    own_memory = open("/proc/self/mem", O_RDWR);
    aside = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(aside, 1, size);
    if (backing == SHARED) {
        file = memfd_create("floor", MFD_CLOEXEC);
        if (ftruncate(file, (off_t)size) < 0)
            _exit(1);
        page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        memset(page, 1, size);
        mprotect(page, size, PROT_READ);
    }
}

void faults(long count) {
    struct sigaction ours = {.sa_sigaction = open_page, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER}, before;
    sigaction(SIGSEGV, &ours, &before);
    for (long i = 0; i < count; i++) {
        set(page, 7, 8);
        close_page();
    }
    sigaction(SIGSEGV, &before, NULL);
}

void finish(void) {
    munmap(aside, size);
    close(own_memory);
    if (backing == SHARED) {
        munmap(page, size);
        close(file);
    }
}
"""
PRIVATE, SHARED, GUARD = range(3)


def compiled(folder: str) -> ctypes.CDLL:
    """The floor, as a library."""
    library = Path(folder) / "floor.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=SOURCE.encode(), check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.prepare.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    loaded.faults.argtypes = (ctypes.c_long,)
    return loaded


def blocked_writes(address: int, size: int, count: int) -> None:
    """That many writes that fault, each caught as an exception."""
    memset = ctypes.memset
    caught = 0
    with catch_faults():
        for _ in range(count):
            try:
                memset(address, 7, size)
            except FaultError:
                caught += 1
    if caught != count:
        raise RuntimeError(f"{caught} of {count} blocked writes raised FaultError; all of them should")


def read_only(pages: int, *, shared: bool) -> Region:
    region = Region(pages * PAGE_SIZE, shared=shared)
    ctypes.memset(region.address, 1, region.size)
    region.protect("r--")
    return region


def against_the_floor(library: ctypes.CDLL, what: str, backing: int, address: int) -> Row:
    library.prepare(backing, address, PAGE_SIZE)

    def ours() -> None:
        blocked_writes(address, 8, FAULTS)

    def floor() -> None:
        library.faults(FAULTS)

    one, other, _ = interleaved(ours, floor, RUNS)
    library.finish()
    return Row(f"blocked write to {what}, fault to exception and restored", one / FAULTS, other / FAULTS, 2)


def against_single_faults(what: str, *, shared: bool) -> Row:
    region = read_only(PAGES, shared=shared)

    def together() -> None:
        blocked_writes(region.address, region.size, 1)

    def one_by_one() -> None:
        blocked_writes(region.address, 8, FAULTS)

    one, other, _ = interleaved(together, one_by_one, RUNS_OF_MANY_PAGES)
    region.close()
    return Row(f"blocked memset of 1000 {what} pages, per page", one / PAGES, other / FAULTS, 5, faster=True)


def against_the_promise(what: str, *, shared: bool) -> Row:
    region = read_only(PAGES, shared=shared)
    times = []
    for _ in range(RUNS_OF_MANY_PAGES):
        start = time.perf_counter()
        blocked_writes(region.address, region.size, 1)
        times.append(time.perf_counter() - start)
    region.close()
    each = statistics.median(times[1:]) / PAGES
    return Row(f"the same memset of {what} pages, against {PROMISED * 1e6:g} us per page", each, PROMISED, 1)


def rows() -> list[Row]:
    private, shared, behind = read_only(1, shared=False), read_only(1, shared=True), guarded(PAGE_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        library = compiled(folder)
        cases: list[Callable[[], Row]] = [
            lambda: against_the_floor(library, "private memory", PRIVATE, private.address),
            lambda: against_the_floor(library, "shared memory", SHARED, shared.address),
            lambda: against_the_floor(library, "a guard", GUARD, behind.address + PAGE_SIZE),
        ]
        found = [measured() for measured in cases]
    for region in (private, shared, behind):
        region.close()
    return [
        *found,
        against_single_faults("private", shared=False),
        against_single_faults("shared", shared=True),
        against_the_promise("private", shared=False),
        against_the_promise("shared", shared=True),
    ]


if __name__ == "__main__":
    from measure import show

    show(rows())
