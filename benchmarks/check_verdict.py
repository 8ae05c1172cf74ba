"""`check` of one page among 20 000 mappings, against the 10 us it may take, and against making the change."""

from measure import Row, interleaved

from memprot import PAGE_SIZE, Prot, calls, check
from memprot.flags import MapFlag

MAPPINGS = 20_000
CHECKS = 1000
MOST = 10e-6


def rows() -> list[Row]:
    # Every second page is read-only, so that each page is a mapping.
    size = MAPPINGS * PAGE_SIZE
    start = calls.mmap(0, size, Prot.READ | Prot.WRITE, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
    for address in range(start, start + size, 2 * PAGE_SIZE):
        calls.mprotect(address, PAGE_SIZE, Prot.READ)
    page = start + size // 2
    assert check(page, PAGE_SIZE, Prot.READ | Prot.WRITE)

    def less() -> None:
        for _ in range(CHECKS):
            check(page, PAGE_SIZE, Prot.NONE)

    def more() -> None:
        for _ in range(CHECKS):
            check(page, PAGE_SIZE, 3)

    def change() -> None:
        for _ in range(CHECKS // 2):
            calls.mprotect(page, PAGE_SIZE, 3)
            calls.mprotect(page, PAGE_SIZE, 1)

    taken, _, _ = interleaved(less, change, 21)
    given, made, _ = interleaved(more, change, 21)
    calls.munmap(start, size)
    return [
        Row("check() of less access, 20 000 mappings, against 10 us", taken / CHECKS, MOST, 1),
        Row("check() of more access, 20 000 mappings, against 10 us", given / CHECKS, MOST, 1),
        Row("check() of more access, against calls.mprotect", given / CHECKS, made / CHECKS, None),
    ]


if __name__ == "__main__":
    from measure import show

    show(rows())
