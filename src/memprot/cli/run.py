"""``memprot run``: a program, and the names of what breaks its memory."""

import os
from importlib import resources
from typing import Any

import click
from click.core import ParameterSource

from memprot.guard.settings import MOST_SAMPLED
from memprot.prot import PAGE_SIZE
from memprot.run import executable, launch, native, stderr
from memprot.run.options import GUARDS, Guard, OnFault, Options, Side
from memprot.run.suppressions import SuppressionsError, read
from memprot.size import parse_part_of_memory

__all__ = ["command"]

_PROGRAM = "memprot.program"
_SUPPRESSIONS_VARIABLE = "MEMPROT_SUPPRESSIONS"
_MAY_LACK_VALUE = ("gen_suppressions",)  # it has one only where it stands in the same word, behind "="
_NAMED = "memprot.named"
_FORMS = "(SCRIPT | -m MODULE | -c CODE | - | EXECUTABLE)"

# What --thorough stands for; the quarantine never takes more than an eighth of the machine.
_THOROUGH: dict[str, Any] = {
    "guard": GUARDS,
    "side": "turns",
    "quarantine": min(256 << 20, os.sysconf("SC_PHYS_PAGES") // 8 * PAGE_SIZE),
}


class _RunCommand(click.Command):
    """Reads its own options only in front of the program: what follows is the program's own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options, ctx.meta[_PROGRAM] = _split(args, self._options_with_value())
        # Behind "--" stands a name, which may be that of a program in PATH.
        ctx.meta[_NAMED] = args[len(options) : len(options) + 1] == ["--"]
        return super().parse_args(ctx, options)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]", _FORMS, "[ARGS]..."]

    def _options_with_value(self) -> set[str]:
        return {
            name
            for parameter in self.params
            if isinstance(parameter, click.Option) and not parameter.is_flag and parameter.name not in _MAY_LACK_VALUE
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


def _print_schema(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(resources.files("memprot.run").joinpath("report.schema.json").read_text("utf-8"), nl=False)
        context.exit()


def _power_of_two(context: click.Context, parameter: click.Parameter, number: int | None) -> int | None:
    if number is None:
        return None
    if not 1 <= number <= PAGE_SIZE or number & (number - 1):
        raise click.BadParameter(
            f"{number} is no power of two from 1 to the page size, {PAGE_SIZE}.", context, parameter
        )
    return number


def _guards(context: click.Context, parameter: click.Parameter, given: str) -> tuple[Guard, ...]:
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in (*GUARDS, "all", "none"):
            raise click.BadParameter(
                f"nothing called {name!r} can be guarded; choose from {', '.join(GUARDS)}, all, none.",
                context,
                parameter,
            )
    if "none" in names:
        if len(names) > 1:
            raise click.BadParameter(f"none stands alone, not in {given!r}.", context, parameter)
        return ()
    return tuple(guard for guard in GUARDS if guard in names or "all" in names)


def _part_of_memory(context: click.Context, parameter: click.Parameter, given: str) -> int:
    try:
        return parse_part_of_memory(given)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", context, parameter) from error


@click.command(cls=_RunCommand, short_help="run a program and name what breaks its memory")
@click.option(
    "--on-fault",
    type=click.Choice(["raise", "log", "abort"]),
    default="raise",
    show_default=True,
    help="A fault that can be survived becomes FaultError, is only reported, or ends the program.",
)
@click.option(
    "--guard",
    metavar="LIST",
    callback=_guards,
    default="numpy",
    show_default=True,
    help="Whose memory is guarded, separated by commas: numpy (the data of arrays), raw, mem, obj (Python's own three "
    "kinds), malloc (the C library's), all, none.",
)
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(1, MOST_SAMPLED),
    default=1,
    show_default=True,
    help="Guard one block of N, chosen at random; with 1 each. Large numbers cost next to nothing and find an error "
    "sooner or later.",
)
@click.option(
    "--quarantine",
    metavar="SIZE",
    callback=_part_of_memory,
    default="0",
    show_default=True,
    help="So much freed memory stays inaccessible, which finds uses after free: bytes, or 64MiB, 1GiB. The block that "
    "was freed first is used again first.",
)
@click.option(
    "--side",
    type=click.Choice(["right", "left", "random", "turns"]),
    default="right",
    show_default=True,
    help="Which end of every block lies at a guard: right finds overruns, left finds underruns; one of them at random, "
    "or by turns, finds both in part.",
)
@click.option(
    "--align",
    metavar="N",
    type=int,
    callback=_power_of_two,
    help="The address of every block is a multiple of N bytes. By default NumPy's arrays end at their guards to the "
    "byte, as with 1, and other blocks are aligned as their allocators promise, to 16; programs that count on that for "
    "arrays need 16.",
)
@click.option(
    "--thorough",
    is_flag=True,
    help="All guards, both sides by turns, and a quarantine of 256MiB; options that are given too win.",
)
@click.option("--follow", is_flag=True, help="Run the programs that this one starts under memprot too.")
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write the report as data.",
)
@click.option(
    "--json-schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON Schema of that report, and run nothing.",
)
@click.option(
    "--error-exitcode",
    metavar="N",
    type=click.IntRange(0, 255),
    default=0,
    show_default=True,
    help="The exit status when a fault was seen though the program ended with 0.",
)
@click.option(
    "--suppressions",
    "files",
    metavar="FILE",
    multiple=True,
    help="Tell nobody of the faults that this file names. Several files may be given, and more in MEMPROT_SUPPRESSIONS "
    "with colons between them.",
)
@click.option(
    "--gen-suppressions",
    metavar="[FILE]",
    is_flag=False,
    flag_value="-",
    help="Behind each report print what would suppress it, or with --gen-suppressions=FILE add it to a file.",
)
@click.option("--quiet", is_flag=True, help="Print fault reports only, no summary.")
@click.pass_context
def command(
    context: click.Context,
    on_fault: OnFault,
    guard: tuple[Guard, ...],
    sample: int,
    quarantine: int,
    side: Side,
    align: int | None,
    thorough: bool,
    follow: bool,
    json_path: str | None,
    error_exitcode: int,
    files: tuple[str, ...],
    gen_suppressions: str | None,
    quiet: bool,
) -> None:
    """Run a Python program with guards at the ends of its memory, and name what breaks it.

    The program is run as `python` would run it; options for memprot stand in front of it, everything behind
    its name is its own. Reports and a summary go to standard error.

    \b
      memprot run app.py --its-own-option
      memprot run --on-fault log -m pytest -q
      memprot run --guard numpy,malloc --quarantine 64MiB app.py
      memprot run --thorough app.py

    Exit status: the program's own.
    """
    program: list[str] = context.meta[_PROGRAM]
    if not program:
        raise click.UsageError(f"There is no program to run: give one of {_FORMS}.", context)
    path = None if json_path is None else _document_path(json_path)
    options = Options(on_fault, side, error_exitcode, quiet, path, align or 0, guard, sample, quarantine, follow)
    options.suppressions = _suppression_files(files, context)
    if gen_suppressions is not None:
        options.gen_suppressions = _place_of_suppressions(gen_suppressions)
    if thorough:
        _make_thorough(options, context)
    try:
        path = executable.find(program[0]) if context.meta[_NAMED] else program[0]
        if executable.is_executable(path):
            if options.suppressions or options.gen_suppressions is not None:
                stderr.say(
                    f"memprot: {path!r} is no Python program, so that its faults are told as if none were suppressed.\n"
                )
            native.launch(options, path, program)
        launch.launch(options, [path, *program[1:]])
    except (executable.MissingError, native.CannotStartError) as error:
        stderr.say(f"memprot: {error}\n")
        raise SystemExit(error.status) from error
    except launch.CannotRunError as error:
        raise click.UsageError(str(error), context) from error


def _make_thorough(options: Options, context: click.Context) -> None:
    for name, value in _THOROUGH.items():
        if context.get_parameter_source(name) is ParameterSource.DEFAULT:
            setattr(options, name, value)


def _suppression_files(given: tuple[str, ...], context: click.Context) -> tuple[str, ...]:
    """Those of the environment first, all of them absolute, as the program may change its working directory."""
    inherited = filter(None, os.environ.get(_SUPPRESSIONS_VARIABLE, "").split(os.pathsep))
    paths = tuple(os.path.abspath(path) for path in (*inherited, *given))
    try:
        read(paths)
    except SuppressionsError as error:
        raise click.UsageError(str(error), context) from error
    return paths


def _place_of_suppressions(given: str) -> str:
    if given == "-":
        return given
    path = os.path.abspath(given)
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        raise click.BadParameter(
            f"{given!r} cannot be written: {error.strerror}; name another file.", param_hint="--gen-suppressions"
        ) from error
    return path


def _document_path(given: str) -> str:
    """The file itself: the program may change its working directory, and links are not to be replaced."""
    path = os.path.abspath(given)
    if not os.path.exists(path) or os.path.isfile(path):
        path = os.path.realpath(path)
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise click.BadParameter(f"the folder {folder!r} does not exist; create it first.", param_hint="--json")
    return path
