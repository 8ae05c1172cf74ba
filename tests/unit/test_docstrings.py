"""Every example in a docstring runs and prints what it says."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import memprot

PACKAGE = Path(memprot.__file__).parent


def modules() -> list[str]:
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if ">>> " in path.read_text():
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_run(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0


def test_the_examples_of_the_extensions_manual_run() -> None:
    parser = doctest.DocTestParser()
    manual = PACKAGE / "_native.pyi"
    for node in ast.walk(ast.parse(manual.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            continue
        name = getattr(node, "name", "_native")
        example = parser.get_doctest(ast.get_docstring(node) or "", {}, name, str(manual), 0)
        assert doctest.DocTestRunner().run(example).failed == 0, name
