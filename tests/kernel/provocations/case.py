"""One provocation: what fails, with which errno and for which cause, and a function that makes it fail."""

import ctypes
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import NamedTuple

from memprot import PAGE_SIZE, ProtectionError, Reason, calls, features
from memprot.calls import Advice, MapFlag
from memprot.diagnosis.selinux import enforcing

ANONYMOUS = MapFlag.PRIVATE | MapFlag.ANONYMOUS
_NOBODY = 65534


class Outcome(NamedTuple):
    """How a provocation ended: with the error, or with what went wrong."""

    error: ProtectionError | None
    otherwise: str


@dataclass(frozen=True)
class Case:
    """A failure that can be provoked."""

    call: str
    errno: str
    reason: Reason
    when: str
    provoke: Callable[[], object]
    needs: str = ""

    @property
    def possible(self) -> bool:
        """Whether this machine has what the provocation needs."""
        return not self.needs or _FEATURES[self.needs]()

    def run(self) -> Outcome:
        """Provoke it in a child process, which may do to itself what it likes."""
        ours, theirs = Pipe(duplex=False)
        child = os.fork()
        if child == 0:
            ours.close()
            theirs.send_bytes(pickle.dumps(_attempt(self.provoke)))
            os._exit(0)
        theirs.close()
        try:
            outcome = pickle.loads(ours.recv_bytes())
        except EOFError:
            outcome = Outcome(None, "the child died")
        ours.close()
        os.waitpid(child, 0)
        assert isinstance(outcome, Outcome)
        return outcome


def _takes(advice: Advice) -> bool:
    try:
        calls.madvise(0, 0, advice)
    except ProtectionError:
        return False
    return True


_FEATURES: dict[str, Callable[[], bool]] = {
    "protection keys": lambda: features.available("protection_keys"),
    "a CPU without protection keys": lambda: not features.available("protection_keys"),
    "mseal": lambda: features.available("mseal"),
    "a kernel without names": lambda: not features.available("anonymous_names"),
    "guards": lambda: features.available("madv_guard"),
    "PR_SET_MDWE": lambda: features.available("mdwe"),
    "populating": lambda: _takes(Advice.POPULATE_READ),
    "collapsing": lambda: _takes(Advice.COLLAPSE),
    "root": lambda: os.geteuid() == 0,
    "SELinux": enforcing,
}


class Collection(list[Case]):
    """The provocations of one file, in the order of their definition."""

    def provocation(
        self, call: str, errno: str, reason: Reason, when: str, needs: str = ""
    ) -> Callable[[Callable[[], object]], Callable[[], object]]:
        def add(provoke: Callable[[], object]) -> Callable[[], object]:
            self.append(Case(call, errno, reason, when, provoke, needs))
            return provoke

        return add


def _attempt(provoke: Callable[[], object]) -> Outcome:
    try:
        result = provoke()
    except ProtectionError as error:
        return Outcome(error, "")
    except Exception as error:
        return Outcome(None, repr(error))
    return Outcome(None, f"it succeeded with {result!r}")


def mapped(pages: int = 1, prot: int = 3, flags: int = ANONYMOUS) -> int:
    """Fresh pages with nothing mapped on either side."""
    outer = calls.mmap(0, (pages + 2) * PAGE_SIZE, 0, flags)
    calls.munmap(outer, PAGE_SIZE)
    calls.munmap(outer + (pages + 1) * PAGE_SIZE, PAGE_SIZE)
    calls.mprotect(outer + PAGE_SIZE, pages * PAGE_SIZE, prot)
    return outer + PAGE_SIZE


def with_hole() -> int:
    """Three pages of which the middle one is not mapped."""
    start = mapped(3)
    calls.munmap(start + PAGE_SIZE, PAGE_SIZE)
    return start


def file_of(size: int = PAGE_SIZE, flags: int = os.O_RDONLY) -> int:
    """The descriptor of a file with content, opened as asked for."""
    made = calls.memfd_create("provocation")
    os.ftruncate(made, size)
    return os.open(f"/proc/self/fd/{made}", flags)


def in_use(key: str) -> int:
    """An amount of memory in /proc/self/status, in bytes."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(f"{key}:"))


def fill_mappings(spare: int) -> None:
    """Make mappings until only so many more are allowed."""
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    base = calls.mmap(0, 2 * limit * PAGE_SIZE, 0, ANONYMOUS | MapFlag.NORESERVE)
    count = sum(b"[vsyscall]" not in line for line in Path("/proc/self/maps").read_bytes().splitlines())
    for page in range((limit - spare - count) // 2):
        calls.mprotect(base + (2 * page + 1) * PAGE_SIZE, PAGE_SIZE, 1)
    if (limit - spare - count) % 2:
        calls.mprotect(base + 2 * (limit - 1) * PAGE_SIZE, 2 * PAGE_SIZE, 1)


def give_up_privileges() -> None:
    """Become somebody who may not lock more memory than allowed."""
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    assert ctypes.CDLL(None).prctl(4, 1, 0, 0, 0) == 0  # PR_SET_DUMPABLE: /proc/self stays ours


def filter_call(number: int, error: int) -> None:
    """Let a seccomp filter answer a call with an errno from now on."""

    def instruction(code: int, true: int, false: int, value: int) -> bytes:
        return struct.pack("HBBI", code, true, false, value)

    code = b"".join(
        [
            instruction(0x20, 0, 0, 0),
            instruction(0x15, 0, 1, number),
            instruction(0x06, 0, 0, 0x00050000 | error),
            instruction(0x06, 0, 0, 0x7FFF0000),
        ]
    )
    buffer = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, program) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def noexec_file() -> int:
    """The descriptor of a file on a file system that is mounted noexec, in a mount namespace of our own."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0, os.strerror(ctypes.get_errno())  # CLONE_NEWNS
    private, noexec = 1 << 18 | 1 << 14, 8  # MS_PRIVATE | MS_REC, MS_NOEXEC
    assert libc.mount(None, b"/", None, private, None) == 0
    assert libc.mount(b"none", b"/mnt", b"tmpfs", noexec, None) == 0, os.strerror(ctypes.get_errno())
    file = os.open("/mnt/code", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, PAGE_SIZE)
    return file
