"""Write docs/errors.md: the table of every failure that the programs in tests/kernel/provocations provoke.

``python tools/errors_table.py`` prints it, ``--write`` writes it. A row whose provocation this machine cannot run
keeps what the file has, marked with what it needs.
"""

import argparse
import errno
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.kernel.provocations import CASES, Case  # noqa: E402

PAGE = ROOT / "docs" / "errors.md"
BEGIN, END = "<!-- begin: tools/errors_table.py -->", "<!-- end -->"
HEAD = ["| call | errno | reason | when | what to do |", "|---|---|---|---|---|"]


def row(case: Case) -> str:
    """The line of a case, from the error that it makes here."""
    if not case.possible:
        return f"| `{case.call}` | {case.errno} | `{case.reason}` | {case.when} | (needs {case.needs}) |"
    outcome = case.run()
    error = outcome.error
    if error is None:
        raise SystemExit(f"{case.call}, {case.when}: {outcome.otherwise}")
    name = errno.errorcode[error.errno or 0]
    return f"| `{error.call}` | {name} | `{error.reason}` | {case.when} | {error.hint or ''} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/errors.md")
    write = parser.parse_args().write
    table = "\n".join([*HEAD, *(row(case) for case in CASES)])
    if not write:
        print(table)
        return
    text = PAGE.read_text()
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
