"""A page made read-only: reading goes on as before, and the first write is refused by the hardware.

As it stands the write happens inside ``catch_faults``, so it becomes an exception and the page keeps its
bytes. With ``--die`` the same write happens outside of every scope: the report goes to stderr, and the kernel
ends the process with SIGSEGV, as it would end any other.
"""

import ctypes
import sys

from memprot import PAGE_SIZE, FaultError, Region, catch_faults

TEXT = b"Written while the page was open."


def main(die: bool) -> None:
    with Region(PAGE_SIZE) as page:
        page[: len(TEXT)] = TEXT
        print(f"{page.prot}  {page[: len(TEXT)].decode()}")
        page.protect("r--")
        print(f"{page.prot}  {page[: len(TEXT)].decode()}")
        if die:
            print("writing, with nobody to catch it", flush=True)
            ctypes.memset(page.address, ord("X"), 1)
        try:
            with catch_faults():
                ctypes.memset(page.address, ord("X"), 1)
        except FaultError as fault:
            print(f"FaultError: a {fault.access} at byte {fault.offset}, cause: {fault.cause}")
        print(f"{page.prot}  {page[: len(TEXT)].decode()}")


if __name__ == "__main__":
    main(die="--die" in sys.argv[1:])
