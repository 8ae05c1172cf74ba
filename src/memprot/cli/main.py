"""The command ``memprot``: its options, its list of commands, and how it ends."""

import os
import signal
import sys
from typing import NoReturn

import click

from memprot.cli.lazy_group import LazyCommand, LazyGroup

__all__ = ["group", "main"]

_COMMANDS = {
    "run": LazyCommand("memprot.cli.run", "run a Python program and name what breaks its memory"),
    "maps": LazyCommand("memprot.cli.maps", "list the mappings of a process"),
    "doctor": LazyCommand("memprot.cli.doctor", "show what this kernel and CPU offer, and what you lose without it"),
}

_EXIT_STATUS = """\
\b
Exit status: 0 when the command did what it was asked to,
             1 when it could not, 2 when it was called wrongly.
             `memprot run` ends as the program it ran would have ended."""


@click.group(
    cls=LazyGroup,
    lazy=_COMMANDS,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGUMENT]...",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EXIT_STATUS,
)
@click.version_option(None, "--version", "-V", package_name="memprot", message="memprot %(version)s")
@click.pass_context
def group(context: click.Context) -> None:
    """Linux memory protection for Python programs: see it, and catch who breaks it."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(program: str = "memprot") -> NoReturn:
    """Run the command line and end the process with its status.

    Args:
        program: how the user called it, for messages.

    Raises:
        SystemExit: always; the group's help lists the statuses.

    >>> import subprocess, sys
    >>> wrong = [sys.executable, "-m", "memprot", "--no-such-option"]
    >>> subprocess.run(wrong, capture_output=True).returncode
    2
    """
    sys.exit(_status(program, sys.argv[1:]))


def _status(program: str, arguments: list[str]) -> int:
    # Not click's own entry: it turns a KeyboardInterrupt of the program under `run` into an exit status of 1.
    try:
        with group.make_context(program, arguments) as context:
            try:
                group.invoke(context)
            except (BrokenPipeError, KeyboardInterrupt) as error:
                if context.invoked_subcommand == "run":
                    raise
                _die_of(signal.SIGPIPE if isinstance(error, BrokenPipeError) else signal.SIGINT)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        called = error.ctx.command_path if error.ctx else program
        click.echo(f"{called}: {_sentence(error)} Try `{called} --help`.", err=True)
        return error.exit_code
    except click.ClickException as error:
        click.echo(f"{program}: {_sentence(error)}", err=True)
        return error.exit_code
    return 0


def _sentence(error: click.ClickException) -> str:
    sentence = " ".join(error.format_message().split())
    return sentence if sentence.endswith((".", "?")) else f"{sentence}."


def _die_of(number: signal.Signals) -> None:
    """What a shell expects of a command whose reader has gone or that was interrupted."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
