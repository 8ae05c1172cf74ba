"""``memprot doctor``: what this kernel and CPU offer, and what you lose without it."""

import json
import os
from dataclasses import asdict

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from memprot import features, machine
from memprot.features import Feature

__all__ = ["command"]

_WIDTH_OF_NO_TERMINAL = 120


@click.command(short_help="show what this kernel and CPU offer")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Try each kernel and CPU feature memprot can use, and say what you lose without it.

    Nothing is changed: the trials run in a child process of their own.

    \b
    Exit status: 0, or 1 when memprot cannot work here at all
                 (mprotect or fault signals are missing).
    """
    found = features.probe()
    if as_json:
        report = {
            "schema": 1,
            "machine": asdict(machine.describe()),
            "features": [asdict(feature) for feature in found],
        }
        click.echo(json.dumps(report, indent=2))
    else:
        _print_table(found)
    missing = [feature.name for feature in found if feature.name in features.ESSENTIAL and not feature.available]
    context.exit(1 if missing else 0)


def _print_table(found: tuple[Feature, ...]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_OF_NO_TERMINAL
    console.print(str(machine.describe()), markup=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("feature", no_wrap=True)
    table.add_column("here", no_wrap=True)
    table.add_column("how it was found", overflow="fold", ratio=2)
    table.add_column("without it", overflow="fold", ratio=3)
    for feature in found:
        table.add_row(Text(feature.name), _word(feature), Text(feature.detail), Text(feature.without))
    console.print(table)


def _word(feature: Feature) -> Text:
    if feature.available:
        return Text("yes", style="green")
    if feature.name in features.ESSENTIAL:
        return Text("MISSING", style="bold red")
    return Text("no", style="yellow")
