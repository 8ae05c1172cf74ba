"""The heap growing and shrinking as its end, the program break, is moved with sbrk.

The heap is one mapping, and the break is where it stops. Moving the break up gives new memory, filled with
zeros; moving it down takes memory away. malloc moves the break as well, so this program gives back only what
nobody has put something behind.
"""

import ctypes

from memprot import PAGE_SIZE, AddressSpace, calls

PAGES = 16
NewMemory = ctypes.c_ubyte * (PAGES * PAGE_SIZE)


def main() -> None:
    space = AddressSpace()
    start = calls.sbrk(ctypes.sizeof(NewMemory))  # It returns where the break was: where the new memory begins.
    stop = calls.sbrk(0)
    print(f"the break has moved up by {(stop - start) // PAGE_SIZE} pages")
    heap = space.find(start)
    assert heap is not None
    print(f"the new memory lies in the mapping {heap.path}, {heap.prot}:", stop - 1 in heap)
    new = NewMemory.from_address(start)
    print("it is all zeros:", not any(new))
    ctypes.memset(start, 1, len(new))
    print("it can be written:", all(new))
    if calls.sbrk(0) == stop:
        calls.sbrk(start - stop)
        print("given back, and the break is where it was:", calls.sbrk(0) == start)
    else:
        print("not given back: malloc has moved the break as well")


if __name__ == "__main__":
    main()
