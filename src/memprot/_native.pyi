"""The compiled part of memprot: the only code that knows both C and Python."""

import os

def symbol(address: int, /) -> tuple[str | None, str | None, int | None]:
    """Say which function of which library an address of this process lies in.

    Static functions are found too, where the library's file has a full symbol table.

    :param address: of an instruction. For the frame of a caller pass its return address minus 1: the return
        address itself may be the first of the next function.
    :return: ``(function, library, offset)``: the symbol's name (not demangled), the path of the object, and
        the bytes from the start of the function, or from the load address if no function is known.
        All None for an address in no loaded object, as that of code made at run time.
    :raises TypeError: if the address is not an int.
    :raises OverflowError: if the address is negative or has more than 64 bits.

    Source: dl_iterate_phdr(3), dladdr(3), elf(5). Example:

    >>> import ctypes
    >>> from memprot import _native
    >>> address = ctypes.cast(ctypes.CDLL(None).qsort, ctypes.c_void_p).value
    >>> function, library, offset = _native.symbol(address + 4)
    >>> function, offset
    ('qsort', 4)
    """

def symbol_in_file(path: str | os.PathLike[str], address: int, /) -> tuple[str | None, str, int]:
    """Say which function of an ELF file lies at a virtual address, as :func:`symbol` does for this process.

    :param path: of a 64-bit ELF file.
    :param address: virtual address in the file: that of the process minus the load bias of the object.
    :raises OSError: if the file cannot be read; errno is ENOEXEC for anything but a 64-bit ELF file.
    :raises TypeError: if the address is not an int.
    :raises OverflowError: if the address is negative or has more than 64 bits.

    Source: elf(5). Example:

    >>> import sys
    >>> from memprot import _native
    >>> function, library, offset = _native.symbol_in_file(sys.executable, 0)
    >>> function is None, library == sys.executable
    (True, True)
    """

def symbol_at_file_offset(path: str | os.PathLike[str], offset: int, /) -> tuple[str | None, str, int]:
    """Say which function of an ELF file lies at an offset in it.

    :param path: of a 64-bit ELF file.
    :param offset: in bytes: what a line of ``/proc/PID/maps`` gives, ``address - start + offset``.
    :raises OSError: if the file cannot be read; errno is ENOEXEC for anything but a 64-bit ELF file.
    :raises TypeError: if the offset is not an int.
    :raises OverflowError: if the offset is negative or has more than 64 bits.

    Source: proc_pid_maps(5), elf(5). Example:

    >>> import sys
    >>> from memprot import _native
    >>> function, library, offset = _native.symbol_at_file_offset(sys.executable, 0)
    >>> function is None, library == sys.executable
    (True, True)
    """
