"""What can be known about a process from outside: its mappings, what they may become, and its limits."""

import os
import resource
from typing import NamedTuple

import memprot._native as _native
from memprot._native import Mapping, MapsFile
from memprot.prot import Prot

__all__ = [
    "Memory",
    "Process",
    "max_map_count",
    "memory_of_the_system",
    "number_from",
    "overcommit_mode",
    "own_huge_page",
    "process_of",
]

_READ_IMPLIES_EXEC = 0x0400000
_ASK_PERSONALITY = 0xFFFFFFFF
_REFUSE_EXEC_GAIN = 1
_PLAIN = ("anonymous", "heap", "stack")
_MAY = {"mr": int(Prot.READ), "mw": int(Prot.WRITE), "me": int(Prot.EXEC)}


class Process:
    """The facts about one process that decide whether a call on its memory succeeds.

    :param pid: the process; None for the one that asks, which after a fork is the child.
    :param maps: its mappings, where they are open already.
    :raises OSError: when its memory may not be looked at.

    Everything is asked anew each time, except the flags of a mapping, which cost most. Of our own process the
    facts are found with no descriptor left too.

    Source: proc(5), fs/proc/task_mmu.c.

    >>> from memprot.diagnosis.process import Process
    >>> Process().next_mapping(0).start > 0
    True
    """

    def __init__(self, pid: int | None = None, maps: MapsFile | None = None) -> None:
        self.pid = pid
        self._maps = MapsFile(pid) if maps is None else maps
        self._flags: dict[Mapping, tuple[frozenset[str], int]] = {}

    def next_mapping(self, address: int) -> Mapping | None:
        """The mapping that holds an address, otherwise the first one above it."""
        return self._maps.find_next(address)

    def holds(self, address: int) -> bool:
        """Whether something is mapped at an address."""
        mapping = self.next_mapping(address)
        return mapping is not None and mapping.start <= address

    def flags(self, mapping: Mapping) -> frozenset[str]:
        """The kernel's two-letter flags of a mapping, as VmFlags in proc_pid_smaps(5); empty when it is gone."""
        return self._details(mapping)[0]

    def huge_page_size(self, mapping: Mapping) -> int:
        """The bytes of a page of a mapping that has huge ones ("ht" among its flags)."""
        return self._details(mapping)[1]

    def _details(self, mapping: Mapping) -> tuple[frozenset[str], int]:
        found = self._flags.get(mapping)
        if found is None:
            text, size = self._maps.flags(mapping.start) or ("", 0)
            found = self._flags[mapping] = frozenset(text.split()), size
        return found

    def may_become(self, mapping: Mapping, present: int, wanted: int) -> int:
        """What of a wanted protection the mapping may have at all, given the present one."""
        if not wanted & ~present or _is_plain(mapping):
            return wanted
        flags = self.flags(mapping)
        if not flags:
            return wanted
        for name, bit in _MAY.items():
            if name in flags:
                present |= bit
        return wanted & present

    def is_sealed(self, mapping: Mapping) -> bool:
        """Whether mseal(2) was called on the mapping."""
        return "sl" in self.flags(mapping)

    def seems_sealed(self, mapping: Mapping, start: int) -> bool:
        """The same of our own process, by asking about a page first: quick where nothing is sealed.

        True is certain; False as far as the kernel refuses to move sealed memory onto itself.
        """
        return _native.seems_sealed(start) is not False and self.is_sealed(mapping)

    def grows_down(self, mapping: Mapping) -> bool:
        """Whether the mapping grows towards lower addresses."""
        return "gd" in self.flags(mapping)

    def mapping_count(self) -> int:
        """How many mappings the process has, as vm.max_map_count counts them."""
        return self._maps.count()

    def may_be_near_mapping_limit(self) -> bool:
        """False when two more mappings are certainly allowed; found without counting where possible."""
        return self.pid is not None or _native.near_mapping_limit()

    def reads_imply_execute(self) -> bool:
        """Whether readable memory becomes executable too (READ_IMPLIES_EXEC, personality(2))."""
        if self.pid is None:
            return bool(_native.personality(_ASK_PERSONALITY) & _READ_IMPLIES_EXEC)
        return bool(int(self._text("personality"), 16) & _READ_IMPLIES_EXEC)

    def denies_write_execute(self) -> bool:
        """Whether PR_SET_MDWE is in force. Of another process nobody can know; then False."""
        if self.pid is not None:
            return False
        try:
            return bool(_native.get_mdwe() & _REFUSE_EXEC_GAIN)
        except OSError:
            return False  # a kernel that does not know the option

    def limit(self, which: int) -> int:
        """A soft limit of getrlimit(2), in its unit; 2**64 - 1: none."""
        if self.pid is None:
            soft = resource.getrlimit(which)[0]
            return soft if soft >= 0 else soft + 2**64
        return self._limits(which)[0]

    def data_room(self) -> tuple[int, int]:
        """The bytes of private writable memory in use, and how many are allowed (RLIMIT_DATA)."""
        soft, hard = self._limits(resource.RLIMIT_DATA)
        # The kernel lets the hard limit count where the soft one is 0, for the sake of valgrind.
        return self.status("VmData"), hard if soft == 0 else soft

    def status(self, key: str) -> int:
        """A line of /proc/PID/status that holds an amount of memory, in bytes; 0 when it is missing."""
        return number_from(self._text("status"), key)

    def has_seccomp_filter(self) -> bool:
        """Whether system calls are filtered (mode 2 in /proc/PID/status)."""
        return "\nSeccomp:\t2\n" in self._text("status")

    def holds_our_stack(self, mapping: Mapping) -> bool:
        """Whether the calling thread's stack lies in a mapping."""
        return _native.stack_address() in mapping

    def setting(self, name: str) -> int:
        """A number in /proc/sys; 0 where this kernel does not have it."""
        try:
            return int(_native.read_small_file(f"/proc/sys/{name}"))
        except FileNotFoundError:
            return 0

    def opened_for_writing(self, mapping: Mapping) -> bool | None:
        """Whether the file behind a mapping was opened for writing too; None where that cannot be told."""
        name = f"/proc/{self.pid or 'self'}/map_files/{mapping.start:x}-{mapping.stop:x}"
        try:
            return bool(os.lstat(name).st_mode & 0o200)
        except OSError:
            return None  # no such mapping any more, or this kernel shows nobody

    def _limits(self, which: int) -> tuple[int, int]:
        soft, hard = resource.getrlimit(which) if self.pid is None else resource.prlimit(self.pid, which)
        return soft % 2**64, hard % 2**64

    def _text(self, name: str) -> str:
        return _native.read_small_file(f"/proc/{self.pid or 'self'}/{name}").decode(errors="replace")


class Memory(NamedTuple):
    """The memory of the system, in bytes, and how freely it is promised.

    >>> from memprot.diagnosis.process import memory_of_the_system
    >>> memory_of_the_system().mode in (0, 1, 2)
    True
    """

    mode: int
    """vm.overcommit_memory: 0 by heuristic, 1 always, 2 never beyond the limit."""
    total: int
    """Memory and swap together."""
    commit_limit: int
    """The most that is promised in mode 2."""
    committed: int
    """What has been promised."""


def overcommit_mode() -> int:
    """vm.overcommit_memory.

    >>> from memprot.diagnosis.process import overcommit_mode
    >>> overcommit_mode() in (0, 1, 2)
    True
    """
    mode = _native.overcommit_mode()
    return mode if mode >= 0 else int(_native.read_small_file("/proc/sys/vm/overcommit_memory"))


def memory_of_the_system() -> Memory:
    """Read it.

    Source: proc_meminfo(5), proc_sys_vm(5).

    >>> from memprot.diagnosis.process import memory_of_the_system
    >>> memory_of_the_system().total > 0
    True
    """
    text = _native.read_small_file("/proc/meminfo").decode()
    return Memory(
        overcommit_mode(),
        number_from(text, "MemTotal") + number_from(text, "SwapTotal"),
        number_from(text, "CommitLimit"),
        number_from(text, "Committed_AS"),
    )


def max_map_count() -> int:
    """vm.max_map_count: how many mappings a process may have.

    >>> from memprot.diagnosis.process import max_map_count
    >>> max_map_count() > 0
    True
    """
    return int(_native.read_small_file("/proc/sys/vm/max_map_count"))


def own_huge_page() -> int:
    """The bytes of a transparent huge page; 0 where there are none.

    >>> from memprot.diagnosis.process import own_huge_page
    >>> own_huge_page() >= 0
    True
    """
    try:
        return int(_native.read_small_file("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"))
    except OSError:
        return 0


def process_of(pidfd: int) -> int:
    """The process that a descriptor stands for; -1 when it has ended, or there never was one.

    Source: pidfd_open(2), "Pid" in proc_pid_fdinfo(5).

    >>> import os
    >>> from memprot.diagnosis.process import process_of
    >>> process_of(os.pidfd_open(os.getpid())) == os.getpid()
    True
    """
    text = _native.read_small_file(f"/proc/self/fdinfo/{pidfd & 0xFFFFFFFF}").decode()
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pid:")), -1)


def number_from(text: str, key: str) -> int:
    """The number of kibibytes after ``key:`` in a text of /proc, in bytes; 0 when there is none.

    >>> from memprot.diagnosis.process import number_from
    >>> number_from("VmData:        8 kB", "VmData")
    8192
    """
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name == key:
            return int(rest.split()[0]) * 1024
    return 0


def _is_plain(mapping: Mapping) -> bool:
    """Whether it is private memory without a file, which may become anything."""
    return mapping.inode == 0 and not mapping.shared and mapping.kind in _PLAIN
