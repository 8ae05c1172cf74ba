"""``memprot maps`` as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from memprot import PAGE_SIZE, AddressSpace, Prot, calls
from memprot.flags import MapFlag

PROGRAM = "from memprot.cli.maps import command; command(prog_name='memprot maps')"


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env=os.environ | environment,
    )


def test_without_a_pid_it_shows_itself_with_totals() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "[stack]" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("mappings")
    assert "\x1b" not in done.stdout


def test_every_mapping_of_a_process_is_a_line() -> None:
    done = run(str(os.getpid()))
    for mapping in list(AddressSpace())[:5]:
        assert f"{mapping.start:x} " in done.stdout


def test_json_says_the_same_as_the_library() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        done = run("--json", str(process.pid))
        layout = AddressSpace(process.pid).snapshot()
        assert process.stdin is not None
    data = json.loads(done.stdout)
    assert (data["schema"], data["pid"]) == (1, process.pid)
    assert [(int(m["start"], 16), m["size"], m["prot"], m["path"], m["kind"]) for m in data["mappings"]] == [
        (m.start, m.size, str(m.prot), m.path, m.kind) for m in layout
    ]
    assert sum(total["bytes"] for total in data["totals"].values()) == sum(m.size for m in layout)
    assert sum(total["mappings"] for total in data["totals"].values()) == len(layout)


def test_colour_means_protection_and_can_be_turned_off() -> None:
    address = calls.mmap(0, PAGE_SIZE, Prot("rwx"), MapFlag.SHARED | MapFlag.ANONYMOUS)
    try:
        coloured = run(str(os.getpid()), FORCE_COLOR="1", TERM="xterm", NO_COLOR="").stdout
        plain = run(str(os.getpid()), FORCE_COLOR="1", TERM="xterm", NO_COLOR="1").stdout
    finally:
        calls.munmap(address, PAGE_SIZE)
    red = next(line for line in coloured.splitlines() if f"{address:x} " in line)
    assert "\x1b[1;31m" in red
    assert "31m" not in plain


def test_hostile_names_are_shown_harmless(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\x1b[2Jnew\nline\xff [bold]\\"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, PAGE_SIZE)
    address = calls.mmap(0, PAGE_SIZE, Prot.READ, MapFlag.PRIVATE, fd)
    os.close(fd)
    try:
        shown = run(str(os.getpid())).stdout
        data = json.loads(run("--json", str(os.getpid())).stdout)
    finally:
        calls.munmap(address, PAGE_SIZE)
    assert "\\x1b[2Jnew\\nline\\xff [bold]\\\\\n" in shown
    assert "\x1b" not in shown
    assert os.fsdecode(path) in [mapping["path"] for mapping in data["mappings"]]


def test_names_beyond_the_encoding_of_the_output_are_still_shown(tmp_path: Path) -> None:
    path = tmp_path / "naïve"
    path.write_bytes(bytes(PAGE_SIZE))
    with open(path, "rb") as file:
        address = calls.mmap(0, PAGE_SIZE, Prot.READ, MapFlag.PRIVATE, file.fileno())
    try:
        done = run(str(os.getpid()), PYTHONIOENCODING="ascii:strict")
    finally:
        calls.munmap(address, PAGE_SIZE)
    assert done.returncode == 0
    assert "na\\xefve" in done.stdout


def test_no_such_process_is_one_line_and_status_1() -> None:
    done = run("4194305")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "no process 4194305" in done.stderr


def test_a_wrong_pid_is_status_2() -> None:
    for wrong in ("x", "0", "99999999999999999999999"):
        assert run(wrong).returncode == 2
