"""The command line: its help, its errors, its statuses, and what it hands on untouched."""

import fcntl
import importlib.metadata
import json
import os
import pty
import re
import struct
import subprocess
import sys
import sysconfig
import termios
from pathlib import Path

import pytest

from memprot import cli, features
from memprot.cli.lazy_group import LazyCommand, LazyGroup
from memprot.cli.main import group

CLI = Path(cli.__file__).parent
SCRIPT = Path(sysconfig.get_path("scripts")) / "memprot"
FRAME = {"__init__", "main", "lazy_group"}
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def memprot(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "memprot", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], **environment},
    )


def on_terminal(columns: int, *arguments: str, **environment: str) -> str:
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "memprot", *arguments],
        stdin=secondary,
        stdout=secondary,
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", **environment},
    ):
        os.close(secondary)
        output = b""
        try:
            while piece := os.read(primary, 65536):
                output += piece
        except OSError:  # EIO is how a terminal says that its last user has gone
            pass
        os.close(primary)
    return output.decode()


def test_the_installed_script_and_the_module_print_the_same_version() -> None:
    version = f"memprot {importlib.metadata.version('memprot')}\n"
    assert memprot("--version").stdout == version
    assert subprocess.run([SCRIPT, "-V"], capture_output=True, text=True).stdout == version


def test_without_arguments_the_help_is_printed() -> None:
    assert memprot().returncode == 0
    assert memprot().stdout == memprot("--help").stdout == memprot("-h").stdout


def test_the_help_lists_every_command_and_the_exit_statuses() -> None:
    shown = memprot("--help").stdout
    assert shown.startswith("Usage: python -m memprot [OPTIONS] COMMAND [ARGUMENT]...\n")
    for name, command in group.lazy.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", shown, re.MULTILINE)
    assert "Exit status: 0 " in shown


def test_the_installed_script_calls_itself_memprot() -> None:
    shown = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True).stdout
    assert shown.startswith("Usage: memprot [OPTIONS]")


def test_every_file_beside_the_frame_is_a_command_and_every_command_loads() -> None:
    files = {path.stem for path in CLI.glob("*.py")} - FRAME
    assert files == set(group.lazy)
    for name in files:
        assert group.get_command(None, name) is not None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["dcotor"],
            (
                "python -m memprot: There is no command 'dcotor'. Did you mean 'doctor'? "
                "Try `python -m memprot --help`.\n"
            ),
        ),
        (["xyzzy"], "python -m memprot: There is no command 'xyzzy'. Try `python -m memprot --help`.\n"),
    ],
)
def test_a_wrong_command_is_one_line_with_a_hint_and_status_2(arguments: list[str], sentence: str) -> None:
    done = memprot(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


@pytest.mark.parametrize("arguments", [["--frobnicate"], ["doctor", "--frobnicate"], ["doctor", "surplus"]])
def test_a_wrong_option_or_argument_is_one_line_with_a_hint_and_status_2(arguments: list[str]) -> None:
    done = memprot(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("python -m memprot")
    assert "--help`." in done.stderr


def test_printing_the_help_imports_no_command_and_no_rich() -> None:
    program = "import sys, memprot.cli.main as m\ntry: m.main()\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True)
    modules = set(done.stdout.splitlines()[-1].split())
    assert "memprot.cli.main" in modules
    assert "rich" not in modules
    assert modules.isdisjoint(command.module for command in group.lazy.values())


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "pytest", "--help"],
        ["x.py", "--version"],
        ["--", "x.py", "--", "-h"],
        ["-c", "print(1)", "-V", "--json"],
        ["-"],
        [],
    ],
)
def test_what_follows_the_commands_name_reaches_it_as_typed(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "command_that_keeps_its_arguments.py").write_text(
        "import click\n"
        "received = []\n"
        "class Raw(click.Command):\n"
        "    def parse_args(self, ctx, args):\n"
        "        received[:] = args\n"
        "        return []\n"
        "command = Raw('keep')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    lazy = LazyGroup(
        name="group",
        lazy={"keep": LazyCommand("command_that_keeps_its_arguments", "keep its arguments")},
        params=group.params,
        callback=group.callback,
    )
    with lazy.make_context("group", ["keep", *arguments]) as context:
        lazy.invoke(context)
    received = sys.modules.pop("command_that_keeps_its_arguments").received
    assert received == arguments


def test_run_gets_its_arguments_as_typed() -> None:
    program = "import sys; print(sys.argv)"
    arguments = ["--version", "--", "-h", "--json", "x", "--help"]
    done = memprot("run", "--quiet", "-c", program, *arguments)
    assert done.stdout == f"{['-c', *arguments]}\n"


def test_doctor_prints_a_line_for_the_machine_and_one_for_every_feature() -> None:
    done = memprot("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    machine, *table = done.stdout.splitlines()
    assert machine.startswith(f"Linux {os.uname().release} on {os.uname().machine} (")
    assert f"pages of {os.sysconf('SC_PAGESIZE')} bytes" in machine
    words = {line.split()[0]: line.split()[1] for line in table if line[1:2].isalpha()}
    del words["feature"]
    assert words == {feature.name: "yes" if feature.available else "no" for feature in features.probe()}


def test_doctor_prints_no_escape_sequences_into_a_pipe() -> None:
    assert "\x1b" not in memprot("doctor").stdout


def test_doctor_colours_its_words_on_a_terminal() -> None:
    assert re.search(r"\x1b\[32myes", on_terminal(120, "doctor"))


def test_doctor_uses_no_colour_where_no_color_is_set() -> None:
    colours = re.findall(r"\x1b\[[0-9;]*3[0-7][0-9;]*m", on_terminal(120, "doctor", NO_COLOR="1"))
    assert colours == []


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_doctors_table_keeps_within_the_terminal_and_loses_no_word(columns: int) -> None:
    shown = ANSI.sub("", on_terminal(columns, "doctor")).splitlines()[1:]
    assert max(len(line) for line in shown) <= columns
    assert "…" not in "".join(shown)


def test_doctors_table_keeps_within_columns_in_a_pipe() -> None:
    shown = memprot("doctor", COLUMNS="90").stdout.splitlines()[1:]
    assert max(len(line) for line in shown) <= 90


def test_doctor_as_json_is_the_same_findings_as_data() -> None:
    done = memprot("doctor", "--json")
    report = json.loads(done.stdout)
    assert report["schema"] == 1
    assert report["machine"]["page_size"] == os.sysconf("SC_PAGESIZE")
    assert report["machine"]["kernel"] == os.uname().release
    assert [(f["name"], f["available"]) for f in report["features"]] == [
        (feature.name, feature.available) for feature in features.probe()
    ]
    assert all(set(f) == {"name", "available", "detail", "without"} for f in report["features"])
