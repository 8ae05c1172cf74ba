"""``memprot run``: a Python program, and the names of what breaks its memory."""

import os

import click

from memprot.prot import PAGE_SIZE
from memprot.run import launch
from memprot.run.options import OnFault, Options, Side

__all__ = ["command"]

_PROGRAM = "memprot.program"
_FORMS = "(SCRIPT | -m MODULE | -c CODE | -)"


class _RunCommand(click.Command):
    """Reads its own options only in front of the program: what follows is the program's own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options, ctx.meta[_PROGRAM] = _split(args, self._options_with_value())
        return super().parse_args(ctx, options)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]", _FORMS, "[ARGS]..."]

    def _options_with_value(self) -> set[str]:
        return {
            name
            for parameter in self.params
            if isinstance(parameter, click.Option) and not parameter.is_flag
            for name in parameter.opts
        }


def _split(args: list[str], with_value: set[str]) -> tuple[list[str], list[str]]:
    at = 0
    while at < len(args):
        argument = args[at]
        if argument == "--":
            program = args[at + 1 :]
            return args[:at], ["--", *program] if _looks_like_a_flag(program) else program
        if argument == "-" or not _is_option(argument):
            return args[:at], args[at:]
        at += 2 if argument in with_value else 1
    return args, []


def _looks_like_a_flag(program: list[str]) -> bool:
    """Whether Python would take a script behind ``--`` for a flag of its own."""
    return bool(program) and program[0] != "-" and _is_option(program[0])


def _is_option(argument: str) -> bool:
    return argument.startswith("-") and not argument.startswith(("-m", "-c"))


def _power_of_two(context: click.Context, parameter: click.Parameter, number: int) -> int:
    if not 1 <= number <= PAGE_SIZE or number & (number - 1):
        raise click.BadParameter(
            f"{number} is no power of two from 1 to the page size, {PAGE_SIZE}.", context, parameter
        )
    return number


@click.command(cls=_RunCommand, short_help="run a Python program and name what breaks its memory")
@click.option(
    "--on-fault",
    type=click.Choice(["raise", "log", "abort"]),
    default="raise",
    show_default=True,
    help="A fault that can be survived becomes FaultError, is only reported, or ends the program.",
)
@click.option(
    "--side",
    type=click.Choice(["right", "left"]),
    default="right",
    show_default=True,
    help="Which end of every array lies at a guard: right finds overruns, left finds underruns.",
)
@click.option(
    "--align",
    metavar="N",
    type=int,
    callback=_power_of_two,
    default=1,
    show_default=True,
    help="The address of every array is a multiple of N bytes. With 1 an array ends at its guard to the byte; programs "
    "that count on the 16 of malloc need 16.",
)
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write the report as data.",
)
@click.option(
    "--error-exitcode",
    metavar="N",
    type=click.IntRange(0, 255),
    default=0,
    show_default=True,
    help="The exit status when a fault was seen though the program ended with 0.",
)
@click.option("--quiet", is_flag=True, help="Print fault reports only, no summary.")
@click.pass_context
def command(
    context: click.Context,
    on_fault: OnFault,
    side: Side,
    align: int,
    json_path: str | None,
    error_exitcode: int,
    quiet: bool,
) -> None:
    """Run a Python program with a guard behind every NumPy array, and name what breaks its memory.

    The program is run as `python` would run it; options for memprot stand in front of it, everything behind
    its name is its own. Reports and a summary go to standard error.

    \b
      memprot run app.py --its-own-option
      memprot run --on-fault log -m pytest -q

    Exit status: the program's own.
    """
    program: list[str] = context.meta[_PROGRAM]
    if not program:
        raise click.UsageError(f"There is no program to run: give one of {_FORMS}.", context)
    path = None if json_path is None else _document_path(json_path)
    options = Options(on_fault, side, error_exitcode, quiet, json=path, align=align)
    try:
        launch.launch(options, program)
    except launch.CannotRunError as error:
        raise click.UsageError(str(error), context) from error


def _document_path(given: str) -> str:
    """The file itself: the program may change its working directory, and links are not to be replaced."""
    path = os.path.abspath(given)
    if not os.path.exists(path) or os.path.isfile(path):
        path = os.path.realpath(path)
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise click.BadParameter(f"the folder {folder!r} does not exist; create it first.", param_hint="--json")
    return path
