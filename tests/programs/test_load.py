"""Faults by the million, in every kind of memory, while regions come and go and processes fork.

``make load`` has 10 million of them, ``make test`` as many as seconds allow.
"""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent / "load.py"
FAULTS = int(os.environ.get("MEMPROT_LOAD_FAULTS", "60000"))


@pytest.fixture(scope="module")
def result(misbehave_path: Path) -> dict[str, Any]:
    child = subprocess.run(
        [sys.executable, PROGRAM, str(FAULTS)],
        env={**os.environ, "PYTHONPATH": str(misbehave_path)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=250 + FAULTS / 5000,
    )
    assert child.returncode == 0
    print(child.stdout)
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def test_each_fault_is_told_once(result: dict[str, Any]) -> None:
    assert sum(part["faults"] for part in result["rounds"]) >= FAULTS
    for part in result["rounds"]:
        assert part["told"] == part["faults"]
        assert part["waiting"] == 0
        assert part["strange"] == 0
    assert result["listened"]


def test_each_call_raises_once_in_its_own_thread(result: dict[str, Any]) -> None:
    for part in result["rounds"]:
        assert part["raised"] == part["calls"]
        assert min(part["raised"]) > 0
        assert part["quiet"] == part["at_the_end"] == 0
        # Whoever meets pages that another thread has open goes unnoticed.
        for calls, raised, quiet, _ in part["of_two"]:
            assert calls == raised + quiet
        for calls, raised, quiet, at_the_end in part["of_churn"]:
            assert (calls, quiet, at_the_end) == (raised, 0, 0)


def test_the_data_is_what_it_was(result: dict[str, Any]) -> None:
    assert [part["identical"] for part in result["rounds"]] == [True, True]


def test_forked_children_recover_and_find_their_data(result: dict[str, Any]) -> None:
    for part in result["rounds"]:
        assert list(part["children"]) == ["0"]


def test_nothing_is_left_behind(result: dict[str, Any]) -> None:
    early, late = result["states"]
    assert late["descriptors"] == early["descriptors"]
    assert late["threads"] == early["threads"]
    # The allocators keep an arena more or less; what each of so many faults left would be far more.
    assert late["mappings"] < early["mappings"] + 100
    # Without a global lock each thread has a heap of its own, and what it leaves goes to the next only in part.
    assert late["resident"] < early["resident"] + (
        96 << 20 if sysconfig.get_config_var("Py_GIL_DISABLED") else 32 << 20
    )
