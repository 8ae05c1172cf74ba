"""Arguments that no one would write: many random ones for each call, in a program with nothing to lose."""

import subprocess
import sys
from pathlib import Path

import pytest

from memprot import calls

PROGRAM = Path(__file__).parents[1] / "programs" / "fuzz_calls.py"
NAMES = [name for name in calls.__all__ if not isinstance(getattr(calls, name), type)]


@pytest.mark.parametrize("name", NAMES)
def test_any_arguments_are_refused_in_one_sentence_or_answered_as_the_kernel_does(
    name: str, fuzzing: bool, fuzz_seed: int
) -> None:
    count = 100_000 if fuzzing else 1_000
    command = [sys.executable, str(PROGRAM), name, str(count), str(fuzz_seed)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    print(done.stdout)
