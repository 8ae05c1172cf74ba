"""Why an access to an address fails, asked of the kernel afterwards, where no signal has told it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import memprot.calls as calls
from memprot.prot import PAGE_SIZE, Prot
from memprot.space.maps import AddressSpace

if TYPE_CHECKING:
    from memprot.faults.native_record import Cause
    from memprot.faults.record import Access
    from memprot.space.mapping import Mapping

_NEEDED: Final[dict[Access, Prot]] = {"read": Prot.READ, "write": Prot.WRITE, "execute": Prot.EXEC}
_DENYING: Final[dict[Access, int]] = {"read": 1, "write": 3, "execute": 0}
_GUARD: Final = 1 << 58
"""The bit of a page that is a guard (Documentation/admin-guide/mm/pagemap.rst); 0 before Linux 6.15."""


def cause_at(address: int, access: Access) -> tuple[Cause, int | None]:
    """What forbids an access that has just failed, and the protection key where it is one.

    Parameters:
        address: the byte.
        access: what failed.

    Source: proc_pid_maps(5), proc_pid_pagemap(5), pkeys(7).

    >>> cause_at(0, "read")
    ('unmapped', None)
    """
    try:
        mapping = AddressSpace().find(address)
    except OSError:  # no descriptor is left, or /proc is not mounted
        return "protection", None
    if mapping is None:
        return "unmapped", None
    # Processors have no pages that may only be executed: a key of the kernel's own forbids the rest of them.
    may_be_key = mapping.prot & _NEEDED[access] or mapping.prot == Prot.EXEC
    key = _key_of(mapping) if may_be_key else None
    if key is not None and _denies(key, access):
        return "key", key
    if not mapping.prot & _NEEDED[access]:
        return "protection", None
    return ("bus" if mapping.inode and not _is_guard(address) else "guard"), None


def _denies(key: int, access: Access) -> bool:
    try:
        return bool(calls.pkey_get(key) & _DENYING[access])
    except OSError:  # this machine has no keys
        return False


def _key_of(mapping: Mapping) -> int | None:
    with open("/proc/self/smaps") as smaps:
        inside = False
        for line in smaps:
            name, _, rest = line.partition(" ")
            if not name.endswith(":"):
                inside = int(name.partition("-")[0], 16) == mapping.start
            elif inside and name == "ProtectionKey:":
                return int(rest)
    return None


def _is_guard(address: int) -> bool:
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        entry = os.pread(pagemap.fileno(), 8, address // PAGE_SIZE * 8)
    return bool(int.from_bytes(entry, "little") & _GUARD)
