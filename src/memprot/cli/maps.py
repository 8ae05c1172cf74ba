"""``memprot maps``: the mappings of a process as a table."""

import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING

import click

from memprot.printable import printable
from memprot.prot import Prot
from memprot.space.maps import AddressSpace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.text import Text

    from memprot.space.layout import Layout
    from memprot.space.mapping import Mapping

__all__ = ["command"]

SCHEMA = 1

# From the most dangerous to the least: the first that fits gives the line its colour.
_STYLES = (
    (Prot.WRITE | Prot.EXEC, "writable and executable", "bold red"),
    (Prot.EXEC, "executable", "green"),
    (Prot.WRITE, "writable", "yellow"),
    (Prot.READ, "read-only", ""),
    (Prot.NONE, "no access", "bright_black"),
)
_HINTS = {
    ProcessLookupError: "see the processes with: ps -e",
    PermissionError: "try: sudo memprot maps PID",
}


@click.command()
@click.argument("pid", type=click.IntRange(1, 2**31 - 1), required=False)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object instead of the table.")
def command(pid: int | None, as_json: bool) -> None:
    """Show the mappings of process PID; without PID those of memprot itself, as an example.

    The colour is what may be done with the memory: red can be written and executed, green executed, yellow
    written; plain is read-only, grey allows nothing. NO_COLOR turns colours off. After the protection, s is
    shared and p private. Names are shown with control characters, invalid bytes and backslashes as escapes.

    Exit status: 0 on success, 1 when there is no such process or it may not be looked at, 2 for a wrong
    command line.
    """
    try:
        layout = AddressSpace(pid).snapshot()
    except OSError as error:
        hint = _HINTS.get(type(error))
        sys.stderr.write(f"memprot maps: {error.strerror}{'' if hint is None else f' ({hint})'}\n")
        raise SystemExit(1) from None
    if as_json:
        json.dump(_as_data(os.getpid() if pid is None else pid, layout), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        _show(layout)


def _category(prot: Prot) -> int:
    return next(index for index, (bits, _, _) in enumerate(_STYLES) if prot & bits == bits)


def _totals(layout: "Iterable[Mapping]") -> "tuple[Counter[str], Counter[str]]":
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for mapping in layout:
        name = _STYLES[_category(mapping.prot)][1]
        count[name] += 1
        size[name] += mapping.size
    return count, size


def _as_data(pid: int, layout: "Layout") -> dict[str, object]:
    count, size = _totals(layout)
    return {
        "schema": SCHEMA,
        "pid": pid,
        "mappings": [
            {
                "start": hex(mapping.start),
                "stop": hex(mapping.stop),
                "size": mapping.size,
                "prot": str(mapping.prot),
                "shared": mapping.shared,
                "offset": mapping.offset,
                "device": mapping.device,
                "inode": mapping.inode,
                "path": mapping.path,
                "deleted": mapping.deleted,
                "kind": mapping.kind,
            }
            for mapping in layout
        ],
        "totals": {name: {"mappings": count[name], "bytes": size[name]} for _, name, _ in _STYLES if name in count},
    }


def _show(layout: "Layout") -> None:
    from rich.console import Console

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console(highlight=False, markup=False, emoji=False)
    for line in _lines(layout):
        # A terminal wraps a long name by itself; a file gets it whole.
        console.print(line, soft_wrap=True)


def _size(size: int) -> str:
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >> shift:
            return f"{size / (1 << shift):.1f} {unit}".replace(".0 ", " ")
    return f"{size} B"


def _name(mapping: "Mapping") -> str:
    name = "" if mapping.path is None else printable(mapping.path)
    return f"{name} (deleted)" if mapping.deleted else name


# Lines of our own, because a rich Table of 20 000 rows takes many seconds.
def _lines(layout: "Layout") -> "Iterable[Text]":
    from rich.text import Text

    width = max((len(f"{mapping.stop:x}") for mapping in layout), default=1)
    kind_width = max((len(mapping.kind) for mapping in layout), default=1)
    yield Text(f"{'start':>{width}} {'stop':>{width}} {'size':>10} prot {'kind':<{kind_width}} name", style="bold")
    for mapping in layout:
        yield Text(
            f"{mapping.start:>{width}x} {mapping.stop:>{width}x} {_size(mapping.size):>10} "
            f"{mapping.prot}{'s' if mapping.shared else 'p'} {mapping.kind:<{kind_width}} "
            f"{_name(mapping)}".rstrip(),
            style=_STYLES[_category(mapping.prot)][2],
        )
    count, size = _totals(layout)
    yield Text()
    for _, name, style in _STYLES:
        if name in count:
            yield Text(f"{_size(size[name]):>10} in {count[name]} mappings: {name}", style=style)
    yield Text(f"{_size(size.total()):>10} in {count.total()} mappings", style="bold")
