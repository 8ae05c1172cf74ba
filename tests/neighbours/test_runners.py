"""Programs that run others' code and look after it: pytest, its workers, a Jupyter kernel."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from neighbour import SETUP, needs, printed

RunChild = Callable[..., subprocess.CompletedProcess[str]]
Pytest = Callable[..., subprocess.CompletedProcess[str]]

SUITE = f"""{SETUP}
import pytest

@pytest.mark.parametrize("index", range(8))
def test_recovered(index):
    assert raises(gil=index % 2 == 0)

def test_expected():
    with pytest.raises(FaultError, match="write of 1 byte"), catch_faults():
        misbehave.write(region.address, 1)
"""
FAILING = """
def test_that_fails_of_a_fault():
    with catch_faults():
        misbehave.write(region.address + 5, 1)

def test_after_it():
    assert raises()
"""
DYING = """
def test_that_dies():
    misbehave.null_write()
"""


@pytest.fixture
def run_pytest(misbehave_path: Path, tmp_path: Path) -> Pytest:
    """Run pytest on a file of tests in a process of its own."""

    def run(suite: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_suite.py").write_text(suite)
        environment = {**os.environ, "PYTHONPATH": str(misbehave_path)}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    return run


@pytest.mark.parametrize("plugin", [(), ("-p", "no:faulthandler")], ids=["with faulthandler", "without"])
def test_pytest_and_its_faulthandler_see_exceptions(run_pytest: Pytest, plugin: tuple[str, ...]) -> None:
    done = run_pytest(SUITE + FAILING, *plugin)
    assert (done.returncode, "1 failed, 10 passed" in done.stdout, done.stderr) == (1, True, ""), done.stdout
    assert "FaultError: write of 1 byte at 0x" in done.stdout


def test_pytests_faulthandler_still_dumps_what_nobody_recovers(run_pytest: Pytest) -> None:
    done = run_pytest(SUITE + DYING)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert "in test_that_dies" in done.stderr


@needs("xdist")
def test_the_workers_of_xdist_see_exceptions_and_one_that_dies_is_replaced(run_pytest: Pytest) -> None:
    done = run_pytest(SUITE + FAILING + DYING, "-n", "2")
    assert (done.returncode, "2 failed, 10 passed" in done.stdout) == (1, True), done.stdout
    assert "FaultError: write of 1 byte at 0x" in done.stdout
    assert re.search(r"worker 'gw\d' crashed while running 'test_suite.py::test_that_dies'", done.stdout)


CELLS = f'''
from jupyter_client.manager import start_new_kernel
import sys
manager, client = start_new_kernel(kernel_name="python3")
def run(code):
    """What a cell printed, and the exception it ended with."""
    said = []
    reply = client.execute_interactive(code, timeout=60, output_hook=lambda message: said.append(message["content"]))
    words = "".join(content.get("text", "") for content in said)
    return words.strip(), reply["content"].get("ename")
try:
    print(run({SETUP!r}))
    print(run("print(raises())"))
    print(run("with catch_faults():\\n    misbehave.write(region.address + 1, 1)"))
    print(run("print(raises(gil=False), region.read(0, 4))"))
    print(run("import asyncio\\nasync def later():\\n    await asyncio.sleep(0)\\n    return raises()\\n"
              "print(await later())"))
    print(manager.is_alive())
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
'''


@pytest.fixture
def jupyter_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


@needs("ipykernel")
@pytest.mark.usefixtures("jupyter_folders")
def test_a_cell_of_a_notebook_shows_the_exception_and_its_kernel_goes_on(run_child: RunChild) -> None:
    child = run_child(CELLS, timeout=120)
    assert printed(child).splitlines() == [
        "('', None)",
        "('True', None)",
        "('', 'FaultError')",
        "(\"True b'\\\\x00\\\\x00\\\\x00\\\\x00'\", None)",
        "('True', None)",
        "True",
    ]
