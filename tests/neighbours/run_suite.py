"""Runs test modules of CPython's and writes what became of each test: ``run_suite.py FILE MODULE... [-k NAME...]``."""

import json
import sys
import unittest
from pathlib import Path
from typing import Any


class Result(unittest.TextTestResult):
    """Notes one word for each test, the worst that was said of it or of its parts."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.outcomes: dict[str, str] = {}

    def _note(self, test: unittest.TestCase, outcome: str) -> None:
        name = test.id()
        if self.outcomes.get(name, "passed") in ("passed", "skipped"):
            self.outcomes[name] = outcome

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addSuccess(test)
        self._note(test, "passed")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self._note(test, "failed")

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self._note(test, "failed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self._note(test, "skipped")

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failed")


def main(file: str, *modules: str) -> None:
    names = list(modules[modules.index("-k") + 1 :]) if "-k" in modules else []
    loader = unittest.TestLoader()
    wanted = names or [f"test.{module}" for module in modules]
    result = unittest.TextTestRunner(resultclass=Result).run(loader.loadTestsFromNames(wanted))
    assert isinstance(result, Result)
    Path(file).write_text(json.dumps(result.outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
