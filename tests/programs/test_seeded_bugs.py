"""Forty functions with one bug each, found and named; their correct versions, of which nothing is said.

tests/seeded has the functions, and beside each what a report must say. tools/seeded_table.py shows all of it.
"""

import json
from pathlib import Path

import pytest

from tests.seeded import BUGS, Bug
from tests.seeded.build import address_sanitizer, build, needed
from tests.seeded.judge import memprot_run, under_address_sanitizer, under_memprot

PAGE = Path(__file__).parent.parent.parent / "docs" / "found.md"
LANGUAGES = ("C", "C++", "Cython", "numba")
GUARDS: dict[str, tuple[str, ...]] = {
    "by default": (),
    "on the left": ("--side", "left"),
    "all guards": ("--guard", "all"),
    "thorough": ("--thorough",),
}


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("seeded"))


@pytest.fixture(scope="module")
def correct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("correct"), "-DCORRECT")


def in_language(language: str) -> list[str]:
    """The names of the functions in a language, where it can be built here."""
    names = [bug.name for bug in BUGS.values() if bug.language == language]
    missing = needed(BUGS[names[0]].code)
    if missing:
        pytest.skip(f"needs {missing}")
    return names


def test_there_are_forty_functions() -> None:
    assert len(BUGS) == 40


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_a_seeded_bug_is_found_classified_and_located(bug: Bug, seeded: Path) -> None:
    missing = needed(bug.code)
    if missing:
        pytest.skip(f"needs {missing}")
    verdict = under_memprot(bug, seeded)
    assert verdict.refused is None
    assert verdict.faults, f"nothing was found; expected {bug.expected}"
    assert verdict.classified, (verdict.faults[0], bug.expected)
    assert verdict.located, (verdict.faults[0], bug.file, bug.line("fault"), bug.line("allocated"), bug.line("freed"))


@pytest.mark.parametrize("options", GUARDS.values(), ids=GUARDS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_said_of_the_correct_versions(
    language: str, options: tuple[str, ...], correct: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    done = memprot_run(correct, in_language(language), report, *options, environment={"SEEDED": "0"})
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(report.read_text())["faults"] == []


def test_address_sanitizer_has_nothing_against_the_correct_versions(tmp_path: Path) -> None:
    """So they are correct; what memprot would say of them would be a false alarm."""
    library = address_sanitizer()
    if library is None:
        pytest.skip("this compiler has no AddressSanitizer")
    folder = build(tmp_path, "-DCORRECT", "-fsanitize=address")
    names = [bug.name for bug in BUGS.values() if bug.language != "numba" and not needed(bug.code)]
    assert under_address_sanitizer(names, folder, library) == ""


def test_the_page_of_what_was_found_has_each_function_with_its_bug() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert [(row[0].strip("| `"), row[1], row[2]) for row in rows if row[0].strip("| `") in BUGS] == [
        (bug.name, bug.language, bug.title) for bug in BUGS.values()
    ]
