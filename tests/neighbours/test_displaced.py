"""A handler that comes on top of ours inside a scope: who gets the next fault, and what brings ours back."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from neighbour import SETUP, printed

RunChild = Callable[..., subprocess.CompletedProcess[str]]
DISPLACED = f"""{SETUP}
import faulthandler
from memprot.faults import engine
def write():
    misbehave.write(region.address + 3, 1)
with catch_faults() as scope:
    faulthandler.enable()
"""


def test_until_a_scope_or_memory_begins_faults_are_the_newcomers(run_child: RunChild) -> None:
    """It does not ask anybody, so the process dies of it, as it would have without memprot."""
    child = run_child(f"{DISPLACED}    write()\n")
    assert child.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in child.stderr
    assert "memprot" not in child.stderr


@pytest.mark.parametrize("act", ["with catch_faults(): pass", "other = Region(10)", "engine.reinstall()"])
def test_the_next_look_brings_ours_back(run_child: RunChild, act: str) -> None:
    child = run_child(f"""{DISPLACED}
    {act}
    try:
        write()
    except FaultError as fault:
        print(fault.offset, region.read() == bytes(10))
""")
    assert printed(child) == "3 True"


def test_memprot_run_brings_it_back_at_once(misbehave_path: Path, tmp_path: Path) -> None:
    """Where Python code has installed the other: what C installs by itself is seen with the next array or scope."""
    script = tmp_path / "program.py"
    script.write_text(f"""
import sys
sys.path.insert(0, {str(misbehave_path)!r})
{DISPLACED}
    for _ in range(3):
        try:
            write()
        except FaultError as fault:
            print(fault.offset)
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
""")
    done = subprocess.run([sys.executable, "-m", "memprot", "run", "--quiet", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "3\n3\n3\n"), done.stderr
