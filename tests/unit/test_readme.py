"""The README tells the truth: its examples run, its links lead somewhere, its options are those there are."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import memprot

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_its_examples_run_and_show_what_they_say(example: str) -> None:
    if "numpy" in example:
        pytest.importorskip("numpy")
    test = doctest.DocTestParser().get_doctest(example, {}, "README", "README.md", 0)
    assert test.examples
    report: list[str] = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert failed == 0, "".join(report)


@pytest.mark.parametrize("name", [*memprot.__all__, "memprot.guard", "memprot.calls"])
def test_every_public_name_has_an_example(name: str) -> None:
    assert any(re.search(rf"\b{re.escape(name)}\b", example) for example in EXAMPLES)


def test_its_links_and_pictures_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert "docs/report.svg" in links
    for link in links:
        assert link.startswith("https://") or (ROOT / link).is_file()


def test_every_option_of_run_is_explained() -> None:
    command = [sys.executable, "-m", "memprot", "run", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    options = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", text, re.MULTILINE)) - {"--help"}
    assert len(options) >= 5
    for option in options:
        assert f"`{option}" in README
