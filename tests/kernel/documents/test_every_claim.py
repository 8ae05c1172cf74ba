"""docs/what-the-documents-get-wrong.md: each row has its test, and each test its row."""

import ast
import re
from pathlib import Path

KERNEL = Path(__file__).parent.parent
DOCUMENT = Path(__file__).parents[3] / "docs" / "what-the-documents-get-wrong.md"
ROW = re.compile(r"^\| (.*?) ?\| (.+?) \| `([\w/.]+)::(\w+)` \|$")


def names_of_tests(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def rows() -> list[tuple[str, str, str, str]]:
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    matches = {line: ROW.match(line) for line in lines if line.strip("|- ") and not line.startswith("| the claim |")}
    assert [line for line, match in matches.items() if match is None] == []
    return [(match[1], match[2], match[3], match[4]) for match in matches.values() if match is not None]


def test_every_row_of_the_document_names_a_test_that_there_is() -> None:
    assert len(rows()) > 40
    for _, _, file, test in rows():
        assert test in names_of_tests(KERNEL / file), f"{file} has no {test}"


def test_every_test_of_a_document_has_a_row() -> None:
    named = {(file, test) for _, _, file, test in rows()}
    for path in Path(__file__).parent.glob("test_*.py"):
        if path != Path(__file__):
            assert {(f"documents/{path.name}", test) for test in names_of_tests(path)} <= named


def test_every_claim_and_every_truth_is_a_sentence() -> None:
    for claim, truth, _, _ in rows():
        assert truth.endswith((".", ".)")), truth
        assert not claim or claim.endswith((".", ")*")), claim
