"""Why a file could not be mapped, or not be made."""

import errno
import fcntl
import os

from memprot.diagnosis.place import amount
from memprot.diagnosis.process import Process
from memprot.diagnosis.refusal import Refusal
from memprot.diagnosis.unseen import not_supported
from memprot.flags import MAP_TYPE, MapFlag
from memprot.prot import Prot
from memprot.reason import Reason

__all__ = ["mapped_file_cause", "memfd_create_cause", "memfd_secret_cause", "shared_memory_cause"]

_WRITE_SEALS = 0x0008 | 0x0010  # F_SEAL_WRITE, F_SEAL_FUTURE_WRITE
_LONGEST_NAME = 249
_HUGE_SHIFT, _HUGE_MASK = 26, 0x3F  # MFD_HUGE_*: the logarithm of a size
_DESCRIPTOR = 2**32 - 1  # the kernel looks at no more of a register


def mapped_file_cause(number: int, fd: int, prot: int, flags: int) -> Refusal | None:
    """What about the file of an mmap stands in its way.

    >>> import errno
    >>> from memprot.diagnosis.files import mapped_file_cause
    >>> mapped_file_cause(errno.EBADF, 1 << 30, 1, 2).reason
    <Reason.BAD_DESCRIPTOR: 'bad_descriptor'>
    """
    if number == errno.EBADF:
        said = f"descriptor {fd} is not open for reading or writing"
        return _descriptor(number, said, "pass the descriptor of an open file, or MapFlag.ANONYMOUS and -1")
    if number == errno.ENODEV:
        return _descriptor(number, f"descriptor {fd} is of a kind that cannot be mapped", "read it instead")
    if number == errno.EOVERFLOW:
        said = "offset and length together are more than a file can have"
        return Refusal(number, Reason.BAD_ARGUMENT, said, "check the offset")
    if number == errno.EOPNOTSUPP:
        said = f"SHARED_VALIDATE refuses flags that the file's system does not know, of {flags:#x}"
        return Refusal(number, Reason.UNKNOWN_FLAGS, said, "leave MapFlag.SYNC and unknown flags out")
    if number not in (errno.EACCES, errno.EPERM):
        return None
    shared = flags & MAP_TYPE in (MapFlag.SHARED, MapFlag.SHARED_VALIDATE)
    fd &= _DESCRIPTOR
    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    if number == errno.EACCES:
        if access == os.O_WRONLY:
            said = f"descriptor {fd} was opened for writing only, and a mapping can always be read"
            return Refusal(number, Reason.FILE_NOT_READABLE, said, "open the file for reading and writing (O_RDWR)")
        if shared and prot & Prot.WRITE and access == os.O_RDONLY:
            said = f"the mapping shall be shared and writable, and descriptor {fd} was opened for reading only"
            hint = "open the file for reading and writing (O_RDWR), or map it privately (MapFlag.PRIVATE)"
            return Refusal(number, Reason.FILE_READ_ONLY, said, hint)
        return None
    if shared and prot & Prot.WRITE and _seals(fd) & _WRITE_SEALS:
        said = f"the file of descriptor {fd} is sealed against writing (F_SEAL_WRITE or F_SEAL_FUTURE_WRITE)"
        return Refusal(number, Reason.MEMFD_SEAL, said, "map it read-only, or privately (MapFlag.PRIVATE)")
    if prot & Prot.EXEC and os.fstatvfs(fd).f_flag & os.ST_NOEXEC:
        said = f"the file of descriptor {fd} lies on a file system that is mounted noexec"
        return Refusal(number, Reason.NOEXEC_MOUNT, said, "put the file on a file system without noexec")
    return None


def memfd_create_cause(number: int, name: str | bytes, flags: int) -> Refusal | None:
    """The cause of a failed memfd_create.

    >>> import errno
    >>> from memprot.diagnosis.files import memfd_create_cause
    >>> memfd_create_cause(errno.EINVAL, "x" * 300, 0).reason
    <Reason.BAD_ARGUMENT: 'bad_argument'>
    """
    if number == errno.EINVAL:
        length = len(os.fsencode(name))
        if length > _LONGEST_NAME:
            said = f"the name has {length} bytes, and {_LONGEST_NAME} are the most"
            return Refusal(number, Reason.BAD_ARGUMENT, said, "shorten it")
        said = f"the flags {flags:#x} have bits that this kernel does not know, or that exclude each other"
        return Refusal(number, Reason.UNKNOWN_FLAGS, said, "use memprot.calls.MemfdFlag")
    if number == errno.ENODEV:
        size = amount(1 << (flags >> _HUGE_SHIFT & _HUGE_MASK))
        hint = "see /sys/kernel/mm/hugepages for the sizes this kernel has"
        return Refusal(number, Reason.NOT_SUPPORTED, f"this kernel has no huge pages of {size}", hint)
    if number == errno.EACCES and Process().setting("vm/memfd_noexec") == 2:
        said = "vm.memfd_noexec is 2: files in memory must not be executable"
        return Refusal(number, Reason.NOT_PERMITTED, said, "add MemfdFlag.NOEXEC_SEAL")
    return made_file_cause(number, name)


def memfd_secret_cause(number: int, flags: int = 0) -> Refusal | None:
    """The cause of a failed memfd_secret.

    >>> import errno
    >>> from memprot.diagnosis.files import memfd_secret_cause
    >>> memfd_secret_cause(errno.ENOSYS).reason
    <Reason.NOT_SUPPORTED: 'not_supported'>
    """
    if number == errno.ENOSYS:
        return not_supported("memfd_secret, or it is switched off", "boot with secretmem.enable=1 (Linux 5.14)")
    if number == errno.EINVAL:
        said = f"memfd_secret knows no flags {flags:#x} but O_CLOEXEC"
        return Refusal(number, Reason.UNKNOWN_FLAGS, said, "pass os.O_CLOEXEC or 0")
    return made_file_cause(number)


def shared_memory_cause(number: int, name: str | bytes, *_: int) -> Refusal | None:
    """The cause of a failed shm_open or shm_unlink.

    Source: shm_open(3); the memory is a file in /dev/shm.

    >>> import errno
    >>> from memprot.diagnosis.files import shared_memory_cause
    >>> shared_memory_cause(errno.EINVAL, "a/b").explanation
    "'a/b' can be no name of shared memory"
    """
    text = os.fsdecode(name).lstrip("/")
    if not text or "/" in text:
        said, hint = f"{name!r} can be no name of shared memory", "give a slash and then a name without any: '/name'"
        return Refusal(number, Reason.BAD_ARGUMENT, said, hint)
    if number in (errno.EISDIR, errno.EINVAL) and os.path.isdir(f"/dev/shm/{text}"):
        said = f"{name!r} is a folder in /dev/shm, and no shared memory"
        return Refusal(number, Reason.BAD_ARGUMENT, said, "choose another name")
    if number == errno.EINVAL:
        return Refusal(number, Reason.UNKNOWN_FLAGS, "the flags do not go together", "use os.O_RDWR, O_CREAT, O_EXCL")
    if number in (errno.EACCES, errno.ELOOP):
        said = f"{name!r} is not ours" if number == errno.EACCES else f"{name!r} is a symbolic link"
        return Refusal(number, Reason.NOT_PERMITTED, said, "see who owns it in /dev/shm, and its mode")
    return made_file_cause(number, name)


def made_file_cause(number: int, name: str | bytes = "") -> Refusal | None:
    """Why a new file or descriptor could not be had.

    >>> import errno
    >>> from memprot.diagnosis.files import made_file_cause
    >>> made_file_cause(errno.ENFILE).reason
    <Reason.DESCRIPTOR_LIMIT: 'descriptor_limit'>
    """
    if number == errno.EMFILE:
        said = "the process has as many descriptors open as RLIMIT_NOFILE allows"
        return Refusal(number, Reason.DESCRIPTOR_LIMIT, said, "close some, or raise RLIMIT_NOFILE (ulimit -n)")
    if number == errno.ENFILE:
        said = "the system has as many files open as fs.file-max allows"
        return Refusal(number, Reason.DESCRIPTOR_LIMIT, said, "close some, or raise fs.file-max")
    if number == errno.ENAMETOOLONG:
        return Refusal(number, Reason.BAD_ARGUMENT, f"the name has {len(name)} characters", "shorten it")
    if number == errno.EEXIST:
        said = f"there is {name!r} already"
        return Refusal(number, Reason.OCCUPIED, said, "choose another name, or leave out O_EXCL")
    if number == errno.ENOENT:
        return Refusal(number, Reason.BAD_ARGUMENT, f"there is no {name!r}", "make it with os.O_CREAT")
    return None


def _descriptor(number: int, said: str, hint: str) -> Refusal:
    return Refusal(number, Reason.BAD_DESCRIPTOR, said, hint)


def _seals(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return 0  # a file that has none
