"""What this kernel and this CPU offer memprot, found by trying each feature once, never by a version number.

The trials run in a child process that is thrown away: nothing they do reaches the calling process, and a
seccomp filter that kills for a system call ends only the child. What cannot be tried is read: limits and
switches under ``/proc/sys`` and ``/sys``.

>>> from memprot import features
>>> features.available("mprotect")
True
"""

import errno
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import memprot._native as _native

__all__ = ["ESSENTIAL", "Feature", "available", "probe"]

ESSENTIAL = frozenset({"mprotect", "fault_signals"})
"""The names of the features without which memprot can do nothing at all."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of the kernel or the CPU, as found here.

    Attributes:
        name: what :func:`available` is asked for.
        available: whether it did in a trial what it is for.
        detail: how it was found to work, or why not: the error, its meaning here, and what would change it.
        without: what memprot cannot do, or does differently, where the feature is missing.

    >>> from memprot.features import Feature
    >>> Feature("mseal", False, "ENOSYS: mseal", "protection cannot be made final").available
    False
    """

    name: str
    available: bool
    detail: str
    without: str


class _Trial(NamedTuple):
    name: str
    available: bool
    error: int
    step: str | None
    signal: int
    value: int


class _Meaning(NamedTuple):
    """What a feature is worth to memprot, and what its own refusals mean where errno alone misleads."""

    without: str
    reasons: Mapping[int, str] = MappingProxyType({})


_NO_EFFECT = 0
_REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOSYS}
_USUAL_REASONS = {
    errno.ENOSYS: "this kernel does not have the call",
    errno.EINVAL: "this kernel does not know it",
    errno.ENOTTY: "this kernel does not know it",
    errno.EPERM: "not allowed for this process",
    errno.EACCES: "not allowed for this process",
    errno.ENOENT: "not there; /proc or /sys may not be mounted",
    errno.EMFILE: "no file descriptor was left to try it with (RLIMIT_NOFILE)",
    errno.ENOMEM: "no memory was left to try it with",
    _NO_EFFECT: "accepted, but it changed nothing",
}

_SLOWER_DIRTY_PAGES = "changed pages are found by a signal at the first write to each, several times slower"

_MEANINGS = {
    "mprotect": _Meaning("nothing in memprot works"),
    "fault_signals": _Meaning("no fault can be caught, reported or turned into an exception"),
    "madv_guard": _Meaning("guards cost two mappings each, so vm.max_map_count limits how many blocks are guarded"),
    "memfd": _Meaning("no shared memory, and no memory that is written through one mapping and run through another"),
    "memfd_noexec": _Meaning("files in memory are created executable, which hardened hosts refuse"),
    "memfd_secret": _Meaning(
        "secrets are locked and left out of core dumps, but the kernel itself can still read them",
        {errno.ENOSYS: "not in this kernel, or off (boot parameter secretmem.enable=1 switches it on)"},
    ),
    "userfaultfd": _Meaning(
        "nothing as long as userfaultfd_user_mode is there",
        {errno.EPERM: "only for root, or for everybody when vm.unprivileged_userfaultfd is 1"},
    ),
    "userfaultfd_user_mode": _Meaning(_SLOWER_DIRTY_PAGES),
    "userfaultfd_wp_async": _Meaning(_SLOWER_DIRTY_PAGES),
    "pagemap_scan": _Meaning(_SLOWER_DIRTY_PAGES),
    "soft_dirty": _Meaning(
        "the pages another process changed cannot be told",
        {
            _NO_EFFECT: "this kernel or CPU has no soft-dirty bit",
            errno.EINVAL: "this kernel or CPU has no soft-dirty bit",
        },
    ),
    "procmap_query": _Meaning("finding the mapping of one address reads every line of /proc/PID/maps"),
    "proc_mem_write": _Meaning(
        "restoring read-only memory lifts its protection for a moment",
        {errno.EIO: "protection holds there too (boot parameter proc_mem.force_override=always lifts it)"},
    ),
    "process_vm_readv": _Meaning("memory of other processes is read through /proc/PID/mem, a call for each range"),
    "hardware_breakpoints": _Meaning(
        "watching a few bytes costs a fault for every access to their page",
        {
            errno.EACCES: "kernel.perf_event_paranoid forbids it to this user (2 or less allows it)",
            errno.ENOENT: "this CPU or virtual machine offers no breakpoint registers",
            errno.EOPNOTSUPP: "this CPU or virtual machine offers no breakpoint registers",
            errno.ENOSPC: "every breakpoint register is taken, by a debugger perhaps",
        },
    ),
    "protection_keys": _Meaning(
        "no rights of a single thread: protection changes for all threads, by a system call",
        {
            errno.EINVAL: "this CPU has no protection keys, or the kernel does not use them",
            errno.ENOSPC: "this CPU has no protection keys, or all of them are taken",
            errno.ENOSYS: "this kernel is built without protection keys",
        },
    ),
    "mseal": _Meaning("protection cannot be made final"),
    "anonymous_names": _Meaning(
        "memprot's mappings have no name in /proc/PID/maps",
        {errno.EINVAL: "this kernel is built without CONFIG_ANON_VMA_NAME"},
    ),
    "transparent_huge_pages": _Meaning(
        "big regions take more page faults and more page tables",
        {errno.EINVAL: "this kernel is built without transparent huge pages"},
    ),
    "numa": _Meaning("nothing: with one memory node there is nowhere to move memory to"),
    "kernel_btf": _Meaning(
        "system calls of other processes cannot be traced by BPF",
        {errno.ENOENT: "this kernel is built without CONFIG_DEBUG_INFO_BTF, or /sys is not mounted"},
    ),
    "bpf": _Meaning(
        "system calls of other processes cannot be traced by BPF",
        {errno.EPERM: "it needs CAP_BPF and CAP_PERFMON (root), and a kernel that is not locked down"},
    ),
    "mdwe": _Meaning("a process cannot forbid itself to make written memory executable"),
    "max_map_count": _Meaning("the limit of mappings shows only when a call fails with ENOMEM"),
    "overcommit": _Meaning("big reservations are refused although most of them is never touched"),
}


@cache
def probe() -> tuple[Feature, ...]:
    """Try every feature; the first call does, later ones in this process return what it found.

    Costs one copy of the process as fork(2) makes it, and a few milliseconds. The program's SIGCHLD handler,
    its descriptors, its mappings and its other children are left alone.

    Returns:
        One :class:`Feature` for each, the indispensable ones first.

    Raises:
        OSError: not one page could be mapped to talk to the child.

    Source: libmemprot/feature.h; the man page of each call named in ``detail``.

    >>> from memprot import features
    >>> [feature.name for feature in features.probe()][:2]
    ['mprotect', 'fault_signals']
    """
    trials = {trial.name: trial for trial in (_Trial(*found) for found in _native.try_features())}
    filtered = _seccomp_filtered()
    found = [_judge(trial, filtered) for trial in trials.values()]
    return (*found, _max_map_count(), _overcommit())


def available(name: str) -> bool:
    """Whether one feature works here, tried at the first question in this process.

    Args:
        name: a name from the table of ``memprot doctor``, such as ``"madv_guard"``.

    Raises:
        ValueError: there is no feature of that name.

    >>> from memprot import features
    >>> features.available("fault_signals")
    True
    """
    for feature in probe():
        if feature.name == name:
            return feature.available
    names = ", ".join(feature.name for feature in probe())
    raise ValueError(f"no feature is called {name!r}; the names are: {names}")


def _judge(trial: _Trial, filtered: bool) -> Feature:
    meaning = _MEANINGS[trial.name]
    if trial.name == "numa" and trial.error == 0 and trial.signal == 0:
        detail = f"{trial.value} memory node{'s' if trial.value != 1 else ''}"
    elif trial.name == "transparent_huge_pages" and trial.available:
        return _huge_pages(meaning)
    elif trial.available:
        detail = "works"
    elif trial.signal:
        detail = _death(trial.signal)
    else:
        detail = _refusal(trial, meaning, filtered)
    return Feature(trial.name, trial.available, detail, meaning.without)


def _death(number: int) -> str:
    name = signal.Signals(number).name
    if number == signal.SIGSYS:
        return f"{name}: a seccomp filter kills the process that tries it"
    if number == signal.SIGALRM:
        return "the trial did not come to an end and was given up"
    return f"{name}: the child process that tried it was killed"


def _refusal(trial: _Trial, meaning: _Meaning, filtered: bool) -> str:
    code = "" if trial.error == 0 else f"{errno.errorcode.get(trial.error, trial.error)}: "
    if trial.step == "clone":
        return f"{code}no child process could be started to try it in"
    reason = meaning.reasons.get(trial.error) or _USUAL_REASONS.get(trial.error) or os.strerror(trial.error)
    if filtered and trial.error in _REFUSALS:
        reason += ", or refused by the seccomp filter this process runs under (a container's profile?)"
    return f"{code}{trial.step}: {reason}" if trial.step else f"{code}{reason}"


def _seccomp_filtered() -> bool:
    """Whether this process runs under a seccomp filter: mode 2 in proc_pid_status(5)."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    return "\nSeccomp:\t2\n" in status


def _huge_pages(meaning: _Meaning) -> Feature:
    """madvise(2) accepts MADV_HUGEPAGE even where the administrator has switched huge pages off."""
    switch = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    try:
        off = "[never]" in switch.read_text()
    except OSError as error:
        detail = f"accepted; whether it is switched on is unknown ({switch}: {error.strerror})"
        return Feature("transparent_huge_pages", True, detail, meaning.without)
    detail = f"switched off: {switch} says never" if off else "works"
    return Feature("transparent_huge_pages", not off, detail, meaning.without)


def _max_map_count() -> Feature:
    return _setting(
        "max_map_count",
        Path("/proc/sys/vm/max_map_count"),
        lambda value: (True, f"{value} mappings for each process"),
    )


def _overcommit() -> Feature:
    modes = {0: "by heuristic", 1: "always", 2: "never beyond CommitLimit in /proc/meminfo"}
    return _setting(
        "overcommit",
        Path("/proc/sys/vm/overcommit_memory"),
        lambda value: (value != 2, f"{value}: {modes.get(value, 'a mode memprot does not know')}"),
    )


def _setting(name: str, path: Path, judge: Callable[[int], tuple[bool, str]]) -> Feature:
    without = _MEANINGS[name].without
    try:
        works, detail = judge(int(path.read_text()))
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "OSError")
        return Feature(name, False, f"{code}: {path} cannot be read", without)
    return Feature(name, works, detail, without)
