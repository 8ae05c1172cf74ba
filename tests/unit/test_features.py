"""Features are found by trying them, in a child that disturbs nothing."""

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from memprot import _native, features

PROGRAMS = Path(__file__).parent.parent / "programs"
MADV_GUARD_INSTALL = 102


def found(name: str) -> features.Feature:
    return next(feature for feature in features.probe() if feature.name == name)


def run_program(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, PROGRAMS / name, *arguments], capture_output=True, text=True, timeout=60)


def doctor_under_seccomp(action: str, *calls: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = run_program("under_seccomp.py", action, ",".join(calls), "doctor", "--json")
    assert done.stderr == ""
    return done.returncode, {feature["name"]: feature for feature in json.loads(done.stdout)["features"]}


def works(attempt: Any, *arguments: Any) -> bool:
    try:
        attempt(*arguments)
    except OSError:
        return False
    return True


def test_every_trial_has_its_meaning_and_every_meaning_its_trial() -> None:
    tried = [name for name, *_ in _native.try_features()]
    assert set(features._MEANINGS) == {*tried, "max_map_count", "overcommit"}
    assert [feature.name for feature in features.probe()] == [*tried, "max_map_count", "overcommit"]


def test_every_feature_says_how_it_was_found_and_what_is_lost_without_it() -> None:
    for feature in features.probe():
        assert feature.detail, feature
        assert feature.without, feature
        assert feature.detail == feature.detail.strip(), feature


def test_the_essential_features_are_among_those_tried_and_work_here() -> None:
    assert all(features.available(name) for name in features.ESSENTIAL)


def test_guard_pages_are_found_where_madvise_takes_them() -> None:
    with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        assert features.available("madv_guard") == works(page.madvise, MADV_GUARD_INSTALL)


def test_memfd_is_found_where_python_can_create_one() -> None:
    def create() -> None:
        os.close(os.memfd_create("trial"))

    assert features.available("memfd") == works(create)


def test_memory_nodes_are_counted_as_sys_lists_them() -> None:
    listing = Path("/sys/devices/system/node/has_memory")
    nodes = 1
    if listing.exists():
        ranges = [part.split("-") for part in listing.read_text().strip().split(",")]
        nodes = sum(int(part[-1]) - int(part[0]) + 1 for part in ranges)
    assert features.available("numa") == (nodes > 1)


def test_the_mapping_limit_is_read_from_proc() -> None:
    assert Path("/proc/sys/vm/max_map_count").read_text().strip() in found("max_map_count").detail


def test_kernel_btf_is_found_where_its_file_is() -> None:
    assert features.available("kernel_btf") == Path("/sys/kernel/btf/vmlinux").exists()


def test_a_refusal_begins_with_the_name_of_its_error() -> None:
    refused = [trial for trial in _native.try_features() if not trial[1] and trial[2]]
    for name, *_ in refused:
        code = found(name).detail.partition(":")[0]
        assert code.isupper(), found(name)
        assert code.startswith("E"), found(name)


def test_asking_for_an_unknown_feature_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no feature is called 'teleport'; the names are: mprotect, "):
        features.available("teleport")


def test_probing_again_returns_what_was_found_first() -> None:
    assert features.probe() is features.probe()


def test_probing_leaves_no_descriptor_mapping_handler_limit_timer_or_child_behind() -> None:
    done = run_program("probe_leaves_nothing.py")
    assert done.stderr == ""
    assert json.loads(done.stdout) == {"changed": {}, "children": "none", "sigchld": 0}


def test_probing_works_while_the_program_ignores_sigchld() -> None:
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        trials = _native.try_features()
    finally:
        signal.signal(signal.SIGCHLD, previous)
    assert {name: available for name, available, *_ in trials}["mseal"] == features.available("mseal")


def test_a_thread_that_waits_for_any_child_gets_only_its_own() -> None:
    child = subprocess.Popen(["sleep", "0.3"])
    reaped: list[int] = []
    waiter = threading.Thread(target=lambda: reaped.append(os.wait()[0]))
    waiter.start()
    for _ in range(3):
        assert _native.try_features()[0][1]
    waiter.join()
    assert reaped == [child.pid]
    child.returncode = 0


def test_sealing_and_refusing_executable_memory_do_not_reach_the_calling_process() -> None:
    _native.try_features()
    prot = mmap.PROT_READ | mmap.PROT_WRITE
    with mmap.mmap(-1, mmap.PAGESIZE, prot=prot) as page:
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        assert libc.mprotect(address, mmap.PAGESIZE, prot | mmap.PROT_EXEC) == 0


def test_without_a_free_descriptor_what_needs_none_is_still_found() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        trials = {name: (available, error) for name, available, error, *_ in _native.try_features()}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert trials["mprotect"] == (True, 0)
    assert trials["memfd"] == (False, errno.EMFILE)
    assert trials["madv_guard"][0] == features.available("madv_guard")


def test_calls_that_a_seccomp_filter_refuses_are_reported_and_the_rest_works() -> None:
    status, seen = doctor_under_seccomp("EPERM", "userfaultfd", "memfd_create")
    assert status == 0
    for name in ("userfaultfd", "userfaultfd_user_mode", "userfaultfd_wp_async", "memfd", "memfd_noexec"):
        assert not seen[name]["available"]
        assert seen[name]["detail"].startswith("EPERM: ")
        assert "seccomp" in seen[name]["detail"]
    others = [feature for feature in features.probe() if not feature.name.startswith(("userfaultfd", "memfd"))]
    for feature in others:
        assert seen[feature.name]["available"] == feature.available, feature.name


def test_a_seccomp_filter_that_kills_ends_only_the_child() -> None:
    status, seen = doctor_under_seccomp("kill", "userfaultfd", "memfd_create")
    assert status == 0
    assert seen["memfd"]["detail"] == "SIGSYS: a seccomp filter kills the process that tries it"
    assert not seen["userfaultfd_wp_async"]["available"]
    for name in ("mprotect", "madv_guard", "pagemap_scan", "mdwe"):
        assert seen[name]["available"] == features.available(name), name


def test_where_no_child_can_be_started_harmless_trials_run_and_the_others_say_so() -> None:
    status, seen = doctor_under_seccomp("EPERM", "clone")
    assert seen["mseal"]["detail"] == "EPERM: no child process could be started to try it in"
    for name in ("mprotect", "madv_guard", "pagemap_scan", "procmap_query"):
        assert seen[name]["available"] == features.available(name), name
    assert status == 1  # fault signals could not be tried


def test_doctor_ends_with_status_1_where_mprotect_is_refused() -> None:
    status, seen = doctor_under_seccomp("EPERM", "mprotect")
    assert status == 1
    assert not seen["mprotect"]["available"]
