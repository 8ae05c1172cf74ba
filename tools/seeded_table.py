"""Run the forty functions of tests/seeded, each with its bug: what memprot says of it, and what AddressSanitizer says.

``python tools/seeded_table.py`` prints the table, ``--write`` puts it into docs/found.md, ``--json`` prints it as data;
with names, those functions only. What cannot be built here (numba and Cython are optional) is said and left out.
"""

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.seeded import BUGS, Bug  # noqa: E402
from tests.seeded.build import address_sanitizer, build, needed  # noqa: E402
from tests.seeded.judge import Verdict, options, under_address_sanitizer, under_memprot  # noqa: E402

PAGE = ROOT / "docs" / "found.md"
BEGIN, END = "<!-- begin: tools/seeded_table.py -->", "<!-- end -->"
HEAD = ["function", "code", "bug", "options", "memprot", "line", "AddressSanitizer"]
NOT_INSTRUMENTED = "not instrumented"


class Row(NamedTuple):
    bug: Bug
    verdict: Verdict
    address_sanitizer: str | None  # None where it does not apply; empty when it said nothing

    def cells(self) -> list[str]:
        """The row of the table, in the order of its head."""
        verdict = self.verdict
        said = verdict.said if verdict.classified else f"NOT FOUND: {verdict.refused or verdict.said or 'nothing'}"
        if self.address_sanitizer is None:
            other = NOT_INSTRUMENTED if self.bug.language == "numba" else "not in this compiler"
        else:
            other = self.address_sanitizer or "nothing"
        line = "named" if verdict.located else "NOT NAMED"
        return [self.bug.name, self.bug.language, self.bug.title, " ".join(options(self.bug)), said, line, other]

    def data(self) -> dict[str, object]:
        """The row as data."""
        return {
            "function": self.bug.name,
            "language": self.bug.language,
            "bug": self.bug.title,
            "options": options(self.bug),
            "found": self.verdict.found,
            "classified": self.verdict.classified,
            "located": self.verdict.located,
            "said": self.verdict.said,
            "refused": self.verdict.refused,
            "address_sanitizer": self.address_sanitizer,
        }


def rows(bugs: list[Bug], console: Console) -> list[Row]:
    """Builds and runs everything, and shows how far it is."""
    library = address_sanitizer()
    found = []
    with tempfile.TemporaryDirectory() as name, console.status("building the functions"):
        folder = build(Path(name) / "plain")
        sanitized = build(Path(name) / "sanitized", "-fsanitize=address") if library else None
        for bug in track(bugs, "running the functions", console=console, transient=True):
            other = None
            if library and sanitized and bug.language != "numba":
                other = under_address_sanitizer([bug.name], sanitized, library)
            found.append(Row(bug, under_memprot(bug, folder), other))
    return found


def score(found: list[Row]) -> str:
    """The sum of the table, in one sentence."""
    ours = sum(row.verdict.found for row in found)
    compared = [row for row in found if row.address_sanitizer is not None]
    theirs = sum(bool(row.address_sanitizer) for row in compared)
    return (
        f"memprot found {ours} of {len(found)}, classified and with the right Python line; "
        f"AddressSanitizer {theirs} of the {len(compared)} that it applies to, without Python lines."
    )


def markdown(found: list[Row]) -> str:
    """The table as it stands in docs/found.md."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for row in found:
        name, language, bug, given, *said = row.cells()
        cells = [f"`{name}`", language, bug, f"`{given}`" if given else "", *said]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([score(found), "", *lines])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="functions; all without")
    parser.add_argument("--write", action="store_true", help="into docs/found.md")
    parser.add_argument("--json", action="store_true", help="as data")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(BUGS))
    if unknown:
        parser.error(f"no such function: {', '.join(unknown)}; tests/seeded has {', '.join(BUGS)}")
    chosen = [bug for bug in BUGS.values() if not given.names or bug.name in given.names]
    bugs = [bug for bug in chosen if not needed(bug.code)]
    for bug in chosen:
        missing = needed(bug.code)
        if missing:
            print(f"{bug.name} is left out: it needs {missing}", file=sys.stderr)
    if given.write and len(bugs) < len(BUGS):
        parser.error(f"only {len(bugs)} of {len(BUGS)} functions can be run: the page needs all of them")
    found = rows(bugs, Console(stderr=True))
    if given.write:
        text = PAGE.read_text()
        PAGE.write_text(
            re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{markdown(found)}\n{END}", text, flags=re.DOTALL)
        )
    elif given.json:
        print(json.dumps([row.data() for row in found], indent=2))
    else:
        table = Table(*HEAD)
        table.columns[0].no_wrap = True
        for row in found:
            table.add_row(*row.cells(), style=None if row.verdict.found else "red")
        console = Console()
        if not console.is_terminal:
            console.width = 160
        console.print(table)
        console.print(score(found))
    return 0 if all(row.verdict.found for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
