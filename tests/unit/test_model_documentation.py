"""docs/model.md: its examples run, and its table names every file of the model."""

import doctest
import re
from pathlib import Path

from memprot import model

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "model.md").read_text()


def test_the_examples_run() -> None:
    # What closes a block of code is no output.
    text = PAGE.replace("\n```\n", "\n\n")
    report: list[str] = []
    test = doctest.DocTestParser().get_doctest(text, {}, "model.md", "docs/model.md", 0)
    failed, tried = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert failed == 0, "".join(report)
    assert tried > 40


def test_the_table_names_every_file() -> None:
    files = {path.name for path in (ROOT / "src" / "memprot" / "model").glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"^\| `(\w+\.py)` \|", PAGE, re.MULTILINE)) == files


def test_every_public_name_is_there() -> None:
    for name in model.__all__:
        assert name in PAGE, name
