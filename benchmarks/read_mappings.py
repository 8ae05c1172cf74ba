"""20 000 mappings: all as typed objects, against psutil and the bare C parse; one of them by its address."""

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from measure import Row, interleaved

from memprot import PAGE_SIZE, AddressSpace, Prot, calls
from memprot.flags import MapFlag

MAPPINGS = 20_000
FINDS = 1000
CORE = Path(__file__).parent.parent / "libmemprot"


def compiled(folder: str) -> ctypes.CDLL:
    """The parser of the C core, without Python around it."""
    library = Path(folder) / "maps.so"
    sources = [CORE / name for name in ("maps.c", "mapping.c", "query.c")]
    subprocess.run(["cc", "-O3", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, *sources], check=True)
    return ctypes.CDLL(str(library))


def rows() -> list[Row]:
    # Every second page is read-only, so that each page is a mapping.
    size = MAPPINGS * PAGE_SIZE
    start = calls.mmap(0, size, Prot.READ | Prot.WRITE, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
    for address in range(start, start + size, 2 * PAGE_SIZE):
        calls.mprotect(address, PAGE_SIZE, Prot.READ)
    space = AddressSpace()
    process = psutil.Process()
    wanted = start + size // 2

    def read() -> None:
        list(space)

    def find() -> None:
        for _ in range(FINDS):
            space.find(wanted)

    def by_psutil() -> None:
        process.memory_maps(grouped=False)

    with tempfile.TemporaryDirectory() as folder:
        core = compiled(folder)

        def in_c() -> None:
            fd = os.open("/proc/self/maps", os.O_RDONLY)
            maps = ctypes.create_string_buffer(64)
            assert core.memprot_maps_read(fd, maps) == 0
            core.memprot_maps_deinit(maps)
            os.close(fd)

        ours, theirs, _ = interleaved(read, by_psutil, 7)
        again, floor, _ = interleaved(read, in_c, 21)
        found, parsed, _ = interleaved(find, in_c, 21)
    calls.munmap(start, size)
    return [
        Row("20 000 mappings, against psutil", ours, theirs, 20, faster=True),
        Row("20 000 mappings, against the C parse", again, floor, 2.5),
        Row("find(address), against parsing in C", found / FINDS, parsed, 1000, faster=True),
        Row("find(address), against 1.5 us", found / FINDS, 1.5e-6, 1),
    ]


if __name__ == "__main__":
    from measure import show

    show(rows())
