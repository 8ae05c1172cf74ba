"""Reading and writing at any address whatsoever: what may not be touched is an exception, never a signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import memprot._native as _native
from memprot.faults.error import FaultError

if TYPE_CHECKING:
    from typing_extensions import Buffer


def peek(address: int, size: int) -> bytes:
    """Copy bytes from an address, whoever owns the memory.

    The kernel makes the copy, as the calling thread would: no signal is raised, so it does not matter who handles or
    blocks signals. Nothing is looked at twice: other threads may change the memory meanwhile.

    :param address: of the first byte.
    :param size: bytes.
    :return: all of them.
    :raises memprot.FaultError: a byte may not be read: ``address`` is the first one, ``transferred`` says how many
        were read before it, and ``partial`` has them.
    :raises TypeError: an argument is no int.
    :raises ValueError: it is negative.
    :raises OverflowError: it does not fit in 64 bits.
    :raises MemoryError: there is no room for a copy.

    Source: process_vm_writev(2), which reads its local side as any system call of the thread reads memory.

    >>> import ctypes
    >>> from memprot import peek
    >>> text = ctypes.create_string_buffer(b"text")
    >>> peek(ctypes.addressof(text), 4)
    b'text'
    >>> try:
    ...     peek(0, 1)
    ... except FaultError as fault:
    ...     print(fault.cause, fault.transferred)
    unmapped 0
    """
    data = _native.peek(address, size)
    if len(data) < size:
        raise FaultError._from_copy(address + len(data), "read", len(data), data)
    return data


def poke(address: int, data: Buffer) -> int:
    """Copy bytes to an address, whoever owns the memory. What the protection forbids is never written.

    :param address: of the first byte.
    :param data: any buffer.
    :return: how many bytes were written: all.
    :raises memprot.FaultError: a byte may not be written: ``address`` is the first one, and ``transferred`` says how
        many were written before it. With ``access`` ``"read"`` it is ``data`` that may not be read further.
    :raises TypeError: an argument of another type.
    :raises ValueError: the address is negative.
    :raises OverflowError: it does not fit in 64 bits.

    Source: process_vm_readv(2), which writes its local side as any system call of the thread writes memory.

    >>> import ctypes
    >>> from memprot import poke
    >>> text = ctypes.create_string_buffer(b"text")
    >>> poke(ctypes.addressof(text), b"n")
    1
    >>> text.value
    b'next'
    """
    with memoryview(data) as view:
        done, unreadable = _native.poke(address, view)
        if done == view.nbytes:
            return done
        if unreadable:
            raise FaultError._from_copy(_native.buffer_range(view)[0] + done, "read", done)
    raise FaultError._from_copy(address + done, "write", done)
