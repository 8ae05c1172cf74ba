"""Six bytes of machine code, written and then run: never writable and executable at the same time.

A compiler that makes code while the program runs needs memory it can write and memory it can run. One page can
be both in turn: mapped writable, filled, and made executable by an mprotect that takes the write permission
away. From then on the code can be called and no longer changed.
"""

import ctypes
import platform

from memprot import PAGE_SIZE, AddressSpace, Prot, calls
from memprot.flags import MapFlag

# A function that returns 42.
MACHINE_CODE = {
    "x86_64": bytes.fromhex("b8 2a 00 00 00  c3"),  # mov eax, 42; ret
    "aarch64": bytes.fromhex("40 05 80 52  c0 03 5f d6"),  # mov w0, #42; ret
}


def show(step: str, page: int) -> None:
    mapping = AddressSpace().find(page)
    assert mapping is not None
    print(f"{mapping.prot}  {step}")


def main() -> None:
    code = MACHINE_CODE[platform.machine()]
    page = calls.mmap(0, PAGE_SIZE, Prot.READ | Prot.WRITE, MapFlag.PRIVATE | MapFlag.ANONYMOUS)
    show("mapped", page)
    try:
        ctypes.memmove(page, code, len(code))
        show("the code is written", page)
        calls.mprotect(page, PAGE_SIZE, Prot.READ | Prot.EXEC)
        show("it can be run, and no longer be changed", page)
        # aarch64 has to be told of new code; Linux does that when a page becomes executable for the first time.
        print("the function returns", ctypes.CFUNCTYPE(ctypes.c_int)(page)())
    finally:
        calls.munmap(page, PAGE_SIZE)


if __name__ == "__main__":
    main()
