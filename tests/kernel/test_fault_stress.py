"""Six threads at once and more faults than anybody makes by mistake: nothing lost, nothing changed."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunChild = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = Path(__file__).parent.parent / "programs" / "stress.py"
FAULTS = int(os.environ.get("MEMPROT_STRESS_FAULTS", "165000"))


def stress(run_child: RunChild, *arguments: str) -> dict[str, Any]:
    child = run_child(PROGRAM, *arguments, timeout=280)
    assert child.returncode == 0, (child.returncode, child.stderr)
    result: dict[str, Any] = json.loads(child.stdout)
    assert child.stderr == ""
    assert result["identical"]
    assert result["waiting"] == 0
    assert result["strange"] == 0
    assert result["faults"] > 0
    return result


def test_each_call_raises_once_in_its_own_thread(run_child: RunChild) -> None:
    result = stress(run_child, "own", str(FAULTS))
    assert result["faults"] >= FAULTS
    assert result["raised"] == result["calls"]
    assert result["quiet"] == result["at_the_end"] == [0] * 6
    # A neighbour that is like it may have become one with it; it is never more than one.
    assert result["mappings"] == [1] * 6
    # Threads bring arenas and stacks along, some tens; a mapping left behind by each call would be thousands.
    assert result["all_mappings"] < stress(run_child, "own", "600")["all_mappings"] + 100


@pytest.mark.parametrize("kind", ["private", "shared"])
def test_calls_of_many_threads_on_one_region_leave_it_as_it_was(run_child: RunChild, kind: str) -> None:
    """A call that meets pages which another thread has opened may go unnoticed; what was noticed is raised."""
    result = stress(run_child, "one", str(FAULTS // 5), kind)
    for calls, raised, quiet in zip(result["calls"], result["raised"], result["quiet"], strict=True):
        assert calls == raised + quiet
    assert result["mappings"] == [1] * 6
