"""Write docs/flags.md, every flag with its number and its meaning, from the sources of memprot.

Run it with the environment's Python: ``.venv/bin/python tools/flags_page.py``.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from memprot import Prot, flags
from memprot.prot import effects_on

PAGE = Path(__file__).parent.parent / "docs" / "flags.md"
# What the headers write before each name, and who takes the flags.
SECTIONS: list[tuple[type[int], str, str]] = [
    (Prot, "PROT_", "`mprotect`, `pkey_mprotect`, `mmap`"),
    (flags.MapFlag, "MAP_", "`mmap`"),
    (flags.RemapFlag, "MREMAP_", "`mremap`"),
    (flags.Advice, "MADV_", "`madvise`, `process_madvise`; one at a time"),
    (flags.SyncFlag, "MS_", "`msync`"),
    (flags.LockFlag, "MLOCK_", "`mlock2`"),
    (flags.LockAllFlag, "MCL_", "`mlockall`"),
    (flags.MemfdFlag, "MFD_", "`memfd_create`"),
    (flags.Seal, "F_SEAL_", "`fcntl` with `F_ADD_SEALS`"),
    (flags.SecretFlag, "O_", "`memfd_secret`"),
    (flags.KeyRights, "PKEY_", "`pkey_alloc`, `pkey_set`, `pkey_get`"),
    (flags.NumaMode, "MPOL_", "`mbind`, `set_mempolicy`, `get_mempolicy`; one at a time"),
    (flags.NumaModeFlag, "MPOL_F_", "the same, added to the mode"),
    (flags.NumaFlag, "MPOL_MF_", "`mbind`, `move_pages`"),
    (flags.DenyWriteExecute, "PR_MDWE_", "`set_mdwe`, `get_mdwe`"),
    (flags.Personality, "", "`personality`"),
    (flags.ExecutionDomain, "PER_", "`personality`; one at a time"),
]
ARCHITECTURES = ("x86_64", "aarch64", "ppc64le")
HEAD = """# The flags

Every flag of `memprot.calls`, with its number on x86-64. In Python the name stands without the prefix of the C header:
`PROT_READ` is `Prot.READ`. All but `Prot` are in `memprot.flags` and, under the same names, in `memprot.calls`.

This page is written by `tools/flags_page.py` from the sources; a test holds the numbers against the installed headers
of the kernel, and another what is said of the running machine against what it does.
"""


class Flag(NamedTuple):
    name: str
    number: int
    meaning: str


def assignments(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr, str]]:
    """The members of a class, also those of one architecture, with what stands below them."""
    for statement, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(statement, ast.If):
            yield from assignments(statement.body)
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            text = after.value if isinstance(after, ast.Expr) else None
            meaning = text.value if isinstance(text, ast.Constant) else ""
            yield statement.targets[0].id, statement.value, str(meaning)


def members(kind: type[int]) -> Iterator[Flag]:
    definition = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(definition, ast.ClassDef)
    names = vars(sys.modules[kind.__module__])
    for name, expression, meaning in assignments(definition.body):
        number = int(eval(compile(ast.Expression(expression), "", "eval"), names))
        yield Flag(name, number, meaning or implied_meaning(name, number))


def implied_meaning(name: str, number: int) -> str:
    if size := re.fullmatch(r"HUGE_(\d+)([KMG])B", name):
        return f"Huge pages of {size[1]} {size[2]}iB."
    carried = [flag.name for flag in members(flags.Personality) if number & flag.number]
    return f"With {', '.join(carried)}." if carried else ""


def table(titles: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def section(kind: type[int], prefix: str, takers: str) -> str:
    rows = (
        (f"`{prefix}{flag.name.removeprefix(prefix)}`", f"`{flag.number:#x}`", flag.meaning) for flag in members(kind)
    )
    summary = inspect.getdoc(kind) or ""
    first = summary.partition("\n\n")[0].replace("``", "`").replace("\n", " ")
    text = re.sub(r":class:`~?(?:memprot\.flags\.)?(\w+)`", r"`\1`", first)
    return f"## {kind.__name__}\n\n{text} Taken by {takers}.\n\n{table(('C name', 'number', 'meaning'), rows)}"


def architectures() -> str:
    by_number = [
        {Prot[name]: effect for name, effect in effects_on(architecture).items()} for architecture in ARCHITECTURES
    ]
    rows = (
        (f"`PROT_{flag.name}`", *(effects[Prot(flag.number)] for effects in by_number))
        for flag in members(Prot)
        if flag.number
    )
    return (
        "## What the architectures do with a protection\n\n"
        f"`Prot.SEM.effect` tells it of the running machine.\n\n{table(('flag', *ARCHITECTURES), rows)}"
    )


def page() -> str:
    first, *others = [section(*entry) for entry in SECTIONS]
    return "\n".join([HEAD, first, architectures(), *others])


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE.name}")
