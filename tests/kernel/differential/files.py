"""The files that operations map: opened in different ways, sealed, on a file system without execution, on a disk."""

import ctypes
import fcntl
import os
import tempfile
from dataclasses import dataclass
from functools import cached_property

from memprot import PAGE_SIZE, Region
from tests.kernel.differential.operations import FENCE, FILE_PAGES, READ_ONLY, WRITABLE

FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
FSCONFIG_CMD_CREATE, MOUNT_ATTR_NOEXEC = 6, 0x8
F_ADD_SEALS, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE = 1033, 0x8, 0x10


@dataclass(frozen=True)
class OpenFile:
    """A descriptor and what mappings of it depend on."""

    descriptor: int
    readable: bool = True
    writable: bool = True
    executable: bool = True
    seals: int = 0

    @property
    def size(self) -> int:
        """In bytes."""
        return os.fstat(self.descriptor).st_size

    @cached_property
    def identity(self) -> tuple[str, tuple[int, int], int]:
        """Path, device and inode as /proc/PID/maps shows them; an overlay's files have another device in stat(2)."""
        path = f"/proc/self/fd/{self.descriptor}"
        if not self.readable:
            return os.readlink(path), (0, 0), 0
        with open(path, "rb") as file, Region.from_file(file, "r--", shared=False) as region:
            (mapping,) = region.mappings
        assert mapping.inode is not None
        return os.readlink(path), mapping.device, mapping.inode


class Files:
    """All of them by name, open for as long as this is. Files that cannot be had here are not there."""

    def __init__(self) -> None:
        writable = os.memfd_create("arena")
        self.by_name = {
            WRITABLE: OpenFile(writable),
            READ_ONLY: OpenFile(reopen(writable, os.O_RDONLY), writable=False),
            "write_only": OpenFile(reopen(writable, os.O_WRONLY), readable=False),
            "other": OpenFile(os.memfd_create("other")),
            FENCE: OpenFile(os.memfd_create("fence")),
            "sealed": sealed(F_SEAL_WRITE),
            "future_sealed": sealed(F_SEAL_FUTURE_WRITE),
            "disk": OpenFile(on_disk()),
        }
        if (descriptor := without_execution()) is not None:
            self.by_name["noexec"] = OpenFile(descriptor, executable=False)
        self.restore()

    @property
    def descriptors(self) -> list[int]:
        """For the process that is to inherit them."""
        return [file.descriptor for file in self.by_name.values()]

    def restore(self) -> None:
        """Give them their first size and content."""
        for file in self.by_name.values():
            if file.writable and not file.seals:
                os.ftruncate(file.descriptor, 0)
                os.ftruncate(file.descriptor, FILE_PAGES * PAGE_SIZE)

    def close(self) -> None:
        """Close all of them."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def reopen(descriptor: int, flags: int) -> int:
    """The same file, opened in another way."""
    return os.open(f"/proc/self/fd/{descriptor}", flags | os.O_CLOEXEC)


def sealed(seal: int) -> OpenFile:
    """A memfd that may not be written any more."""
    descriptor = os.memfd_create(f"seal {seal}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, FILE_PAGES * PAGE_SIZE)
    fcntl.fcntl(descriptor, F_ADD_SEALS, seal)
    return OpenFile(descriptor, seals=seal)


def on_disk() -> int:
    """A file of a file system that writes back."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def without_execution() -> int | None:
    """A file on a file system mounted noexec, which no other process sees; None where that is not permitted."""
    call = ctypes.CDLL(None).syscall
    context = call(FSOPEN, b"tmpfs", 0)
    if context < 0:
        return None
    try:
        if call(FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0) < 0:
            return None
        mount = call(FSMOUNT, context, 0, MOUNT_ATTR_NOEXEC)
    finally:
        os.close(context)
    if mount < 0:
        return None
    try:
        return os.open("noexec", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=mount)
    finally:
        os.close(mount)
