"""docs/model.md: its examples run, and its table names every file of the model."""

import ast
import doctest
import re
import subprocess
import sys
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


def test_importing_the_model_imports_nothing_large() -> None:
    program = (
        "import sys, memprot; before = set(sys.modules); import memprot.model;"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('memprot')))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert set(ast.literal_eval(found)) <= {"_weakrefset", "weakref", "itertools", "_bisect", "bisect"}
