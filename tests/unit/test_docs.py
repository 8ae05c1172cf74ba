"""Every example in the documentation runs and shows what it says."""

import ast
import doctest
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import memprot
from memprot import _native

DOCS = Path(__file__).parent.parent.parent / "docs"


def modules() -> list[str]:
    found = pkgutil.walk_packages(memprot.__path__, "memprot.")
    not_python = ("__main__", "memprot.libmemprot", "memprot.libmemprot_malloc")  # one runs, the others are C
    return ["memprot", *(name for _, name, _ in found if not name.endswith(not_python))]


def run(test: doctest.DocTest) -> None:
    report: list[str] = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert failed == 0, "".join(report)


@pytest.mark.parametrize("name", [name for name in modules() if name != "memprot._native"])
def test_examples_of_the_modules_run(name: str) -> None:
    specification = importlib.util.find_spec(name)
    assert specification is not None
    assert specification.origin is not None
    if ">>>" not in Path(specification.origin).read_text():
        pytest.skip("it has no example")
    for test in doctest.DocTestFinder().find(importlib.import_module(name)):
        run(test)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_examples_of_the_pages_run(page: Path) -> None:
    text = page.read_text()
    if ">>>" not in text:
        pytest.skip("it has no example")
    run(doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0))


def manual() -> Iterator[ast.FunctionDef | ast.ClassDef]:
    stub = Path(memprot.__path__[0]) / "_native.pyi"
    for statement in ast.parse(stub.read_text()).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement


@pytest.mark.parametrize("documented", list(manual()), ids=lambda statement: statement.name)
def test_the_manual_of_the_extension_is_what_help_shows_and_runs(
    documented: ast.FunctionDef | ast.ClassDef,
) -> None:
    text = ast.get_docstring(documented)
    assert text
    assert getattr(_native, documented.name).__doc__ == text
    run(doctest.DocTestParser().get_doctest(text, {}, documented.name, None, None))


def test_everything_in_the_extension_is_in_the_manual() -> None:
    public = {name for name in vars(_native) if not name.startswith("_")}
    assert public == {statement.name for statement in manual()}
