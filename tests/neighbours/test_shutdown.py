"""The interpreter's end: at exit, with threads that go on, and in programs that start it again."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from neighbour import SETUP, printed

RunChild = Callable[..., subprocess.CompletedProcess[str]]


def test_functions_at_exit_may_fault_in_a_scope(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
import atexit
atexit.register(lambda: print(raises(), raises(gil=False)))
""")
    assert printed(child) == "True True"


@pytest.mark.parametrize("end", ["", "os._exit(0)", "sys.exit(0)"], ids=["the end", "_exit", "exit"])
def test_an_open_scope_with_a_fault_nobody_has_seen_ends_quietly(run_child: RunChild, end: str) -> None:
    child = run_child(f"""{SETUP}
import functools
scope = catch_faults()
scope.__enter__()
def touch():
    misbehave.write(region.address, 1, gil=False)
try:
    touch()
except FaultError:
    print("seen", flush=True)
{end}
""")
    assert (printed(child), child.stderr) == ("seen", "")


def test_daemon_threads_that_fault_while_python_ends_do_not_kill_it(run_child: RunChild) -> None:
    """Their faults are recovered as long as there is a scope of theirs; when they stop they stop at Python's lock."""
    child = run_child(f"""{SETUP}
regions = [Region(10, "r--") for _ in range(3)]
started = threading.Barrier(4)
def work(own):
    with catch_faults():
        started.wait()
        while True:
            try:
                misbehave.write(own.address, 1, gil=False)
            except FaultError:
                pass
for own in regions:
    threading.Thread(target=work, args=(own,), daemon=True).start()
started.wait()
print("end")
""")
    assert printed(child) == "end"
    assert "memprot: fatal" not in child.stderr


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program in C that starts Python, built against the library of the Python that runs."""
    library = sysconfig.get_config_var("LDLIBRARY")
    folder = sysconfig.get_config_var("LIBDIR")
    if not Path(folder, library).exists():
        folder = sysconfig.get_config_var("LIBPL")
    if not Path(folder, library).exists():
        pytest.skip(f"this Python was installed without {library}, which embedding needs")
    target = tmp_path_factory.mktemp("embedding") / "ending_interpreters"
    source = Path(__file__).parent.parent / "native" / "ending_interpreters.c"
    link = [*sysconfig.get_config_var("LIBS").split(), *sysconfig.get_config_var("SYSLIBS").split(), "-ldl", "-lm"]
    rpath = [f"-Wl,-rpath,{folder}", *sysconfig.get_config_var("LINKFORSHARED").split()]
    command = ["cc", "-o", str(target), str(source), f"-I{sysconfig.get_path('include')}", str(Path(folder, library))]
    subprocess.run([*command, *rpath, *link, "-lpthread", "-lutil"], check=True)
    return target


def embed(program: Path, misbehave_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(misbehave_path), "EMBEDDED_PYTHON": sys.executable}
    return subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=60)


def test_a_program_may_end_the_interpreter_and_write_no_more_than_before(
    embedding: Path, misbehave_path: Path, tmp_path: Path
) -> None:
    """What is still protected dies of its signal: there is nobody left to raise anything in."""
    file = tmp_path / "address"
    code = f"{SETUP}\nprint(raises(), flush=True)\nopen({str(file)!r}, 'w').write(str(region.address))\n"
    done = embed(embedding, misbehave_path, f"{code}import builtins; builtins.kept = region", "1", "write", str(file))
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "True\nended 0 0\n"), done.stderr
    closed = embed(embedding, misbehave_path, f"{code}region.close()", "1")
    assert (closed.returncode, closed.stdout) == (0, "True\nended 0 0\n"), closed.stderr


def test_a_program_may_start_the_interpreter_again(embedding: Path, misbehave_path: Path) -> None:
    done = embed(embedding, misbehave_path, f"{SETUP}\nprint(raises(), raises(gil=False), flush=True)", "3")
    told = re.sub(r"ended 0 0", "ended", done.stdout)
    assert (done.returncode, told) == (0, "True True\nended\n" * 3), done.stderr
