"""Why a mapping may never have a protection: how its file was opened, where it lies, and how it is sealed."""

import errno
import fcntl
import os
import sys

from memprot._native import Mapping
from memprot.diagnosis.place import named, words
from memprot.diagnosis.process import Process
from memprot.diagnosis.refusal import Refusal
from memprot.prot import Prot
from memprot.reason import Reason

__all__ = ["forbidden", "write_sealed"]

_WRITE_SEALS = 0x0008 | 0x0010  # F_SEAL_WRITE, F_SEAL_FUTURE_WRITE
_MOST_DESCRIPTORS = 1024


def forbidden(process: Process, mapping: Mapping, missing: Prot, start: int, stop: int) -> Refusal:
    """The cause for which a mapping lacks a permission for good (VM_MAYWRITE and its like).

    :param missing: what of the wanted protection the mapping may not have.
    :param start: the first address of the mapping that the request touches; ``stop`` the one after the last.

    Source: do_mmap in mm/mmap.c, shmem_mmap in mm/shmem.c.

    >>> from memprot import AddressSpace
    >>> from memprot.diagnosis.forbidden import forbidden
    >>> from memprot.diagnosis.process import Process
    >>> from memprot.prot import Prot
    >>> vvar = next(mapping for mapping in AddressSpace() if mapping.kind == "vvar")
    >>> forbidden(Process(), vvar, Prot.WRITE, vvar.start, vvar.stop).reason
    <Reason.SPECIAL_MAPPING: 'special_mapping'>
    """
    what = named(mapping)
    ordinary = mapping.path is not None and mapping.kind not in ("kernel", "vvar", "vdso", "secret")
    reason = Reason.SPECIAL_MAPPING
    said = f"{what} belongs to the kernel or a driver, which does not let it become {words(missing)}"
    advice = "leave it as it is"
    if missing & Prot.WRITE and mapping.shared and ordinary:
        opened = process.opened_for_writing(mapping)
        if opened is not False and write_sealed(mapping):
            reason = Reason.MEMFD_SEAL
            said = f"{what} is of a file that is sealed against writing (F_SEAL_WRITE or F_SEAL_FUTURE_WRITE)"
            advice = "a seal stays; write to a copy, or map the file privately (MapFlag.PRIVATE)"
        elif opened is not True:
            reason = Reason.FILE_READ_ONLY
            said = f"{what} is shared, and its file was opened for reading only"
            advice = "open the file for reading and writing (O_RDWR) and map it again, or map it privately"
    elif missing & Prot.EXEC and ordinary:
        reason = Reason.NOEXEC_MOUNT
        said = f"{what} is of a file on a file system that was mounted noexec{_mount_point(mapping)}"
        advice = "put the file on a file system without noexec, or copy the code into memory of your own"
    return Refusal(errno.EACCES, reason, said, advice, start, stop, mapping)


def write_sealed(mapping: Mapping) -> bool:
    """Whether a descriptor of ours shows that the file behind a mapping is sealed against writing.

    >>> from memprot import AddressSpace
    >>> from memprot.diagnosis.forbidden import write_sealed
    >>> write_sealed(next(iter(AddressSpace())))
    False
    """
    for fd in _descriptors():
        try:
            found = os.fstat(fd)
            if (os.major(found.st_dev), os.minor(found.st_dev), found.st_ino) == (*mapping.device, mapping.inode):
                return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _WRITE_SEALS)
        except OSError:
            continue  # closed meanwhile, or of a file without seals
    return False


def _descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # listing them needs one more
        return list(range(min(_MOST_DESCRIPTORS, sys.maxsize)))


def _mount_point(mapping: Mapping) -> str:
    path = mapping.path
    if path is None or mapping.deleted or not path.startswith("/") or not os.path.exists(path):
        return ""
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return f" at {path}"
