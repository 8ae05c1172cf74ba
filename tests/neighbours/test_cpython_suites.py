"""CPython's own tests of faults, mappings and signals, unmodified, in processes that have the engine installed.

Every child process that they start has it too: it is installed by a ``.pth`` file of a virtual environment, which
Python reads whatever flags the tests give it (but -S).
"""

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("run_suite.py")
# `make neighbours` sets it: the others take half a minute, most of it asleep.
ALL = os.environ.get("MEMPROT_NEIGHBOURS") == "1"
SUITES = ("test_mmap", "test_faulthandler", "test_signal") if ALL else ("test_mmap",)
REGION = "import memprot\nregion = memprot.Region(4096, 'r--')\n"
HOOKS = {
    "a policy": f"{REGION}from memprot.faults.engine import set_policy\nset_policy('raise')\n",
    "a scope": f"{REGION}scope = memprot.catch_faults()\nscope.__enter__()\n",
}
UNDER = {"a policy": (), "a scope": ("-m", "memprot", "run", "--quiet")}

pytestmark = pytest.mark.skipif(
    find_spec("test.test_mmap") is None, reason="this Python was installed without its tests"
)


class Environment:
    """A virtual environment whose Python runs a hook when it starts, in every process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self.python = folder / "venv" / "bin" / "python"
        site = subprocess.check_output(
            [self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        )
        self.site = Path(site.strip())
        (self.site / "ours.pth").write_text(f"{sysconfig.get_path('purelib')}\nimport engine_hook\n")

    def outcomes(self, hook: str, suite: str, *names: str, under: tuple[str, ...] = ()) -> dict[str, str]:
        """What became of each test of a module, or of the named ones."""
        (self.site / "engine_hook.py").write_text(hook)
        file = self.folder / "outcomes.json"
        file.unlink(missing_ok=True)
        chosen = ("-k", *names) if names else ()
        done = subprocess.run(
            [self.python, *under, RUNNER, file, suite, *chosen],
            capture_output=True,
            text=True,
            timeout=280,
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        )
        assert file.exists(), (done.returncode, done.stdout[-2000:], done.stderr[-4000:])
        result: dict[str, str] = json.loads(file.read_text())
        return result


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("suites"))


@pytest.fixture(scope="module")
def plain(environment: Environment) -> dict[str, dict[str, str]]:
    """What becomes of each test without memprot."""
    return {suite: environment.outcomes("", suite) for suite in SUITES}


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_the_engine_is_in_every_process_that_the_tests_start(environment: Environment, hook: str) -> None:
    """A foreign handler in front of what the kernel does: the suites below would pass without one as well."""
    environment.outcomes(hook, "test_mmap", "test.test_mmap.MmapTests.test_basic")
    probe = "print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('SigCgt')])"
    done = subprocess.run([environment.python, "-I", "-c", probe], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert int(done.stdout, 16) >> (signal.SIGSEGV - 1) & 1


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("kind", HOOKS)
def test_every_test_has_the_outcome_it_has_without_the_engine(
    environment: Environment, plain: dict[str, dict[str, str]], kind: str, suite: str
) -> None:
    """What differs is tried again by itself, as CPython's own runner does: some of its tests race with time."""
    expected = plain[suite]
    assert Counter(expected.values())["passed"] > 20
    found = environment.outcomes(HOOKS[kind], suite, under=UNDER[kind])
    different = [name for name in expected if found.get(name) != expected[name]]
    if different:
        found.update(environment.outcomes(HOOKS[kind], suite, *different, under=UNDER[kind]))
    print(suite, "without:", dict(Counter(expected.values())), "with:", dict(Counter(found.values())))
    assert found == expected
