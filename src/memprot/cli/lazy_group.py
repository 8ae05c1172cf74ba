"""A group of commands whose modules are imported when they are called, and not to print their names."""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple

import click

__all__ = ["LazyCommand", "LazyGroup"]


class LazyCommand(NamedTuple):
    """Where a command is, and what the group's help says of it.

    Attributes:
        module: dotted name of the module; its attribute ``command`` is the command.
        summary: the line of the group's help.
    """

    module: str
    summary: str


class LazyGroup(click.Group):
    """Imports a command's module when the command is called.

    What follows the command's name reaches the command as it was typed: the group reads options only in front
    of the name.

    Args:
        lazy: the commands by name, in the order of the help.

    >>> from memprot.cli.lazy_group import LazyCommand, LazyGroup
    >>> group = LazyGroup(lazy={"doctor": LazyCommand("memprot.cli.doctor", "show what works here")})
    >>> group.list_commands(None)
    ['doctor']
    """

    def __init__(self, *args: object, lazy: Mapping[str, LazyCommand], **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.lazy = lazy

    def list_commands(self, ctx: click.Context | None) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context | None, name: str) -> click.Command | None:
        if name not in self.lazy:
            return None
        command = import_module(self.lazy[name].module).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.lazy and not name.startswith("-"):
            meant = get_close_matches(name, self.lazy, n=1)
            hint = "".join(f" Did you mean {candidate!r}?" for candidate in meant)
            raise click.UsageError(f"There is no command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in self.lazy.items()])
