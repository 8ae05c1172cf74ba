"""A program that breaks nothing ends under ``memprot run`` as it ends under ``python``, to the letter."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

LOOK_AROUND = """
import os, sys
print(__name__, __file__ if "__file__" in globals() else None, __spec__ and __spec__.name)
print(sys.argv, sys.path, sys.flags, sys.warnoptions, sys._xoptions)
print(sorted(item for item in os.environ.items() if item[0] != "_"))
print([type(finder) for finder in sys.meta_path if "memprot" not in type(finder).__module__])
print("sitecustomize" in sys.modules, [entry for entry in sys.path_importer_cache if "startup" in entry])
"""


def test_a_script_sees_the_world_as_python_shows_it(runner: "Runner") -> None:
    done = runner.both(runner.script(LOOK_AROUND), "--json", "x", "-m", "-")
    assert b"'--json', 'x', '-m', '-'" in done.stdout
    assert b"MEMPROT_RUN" not in done.stdout


@pytest.mark.parametrize("path", ["", "elsewhere", "elsewhere:/nowhere", "elsewhere:", ":"])
def test_pythonpath_is_what_it_was(runner: "Runner", path: str) -> None:
    runner.both(runner.script(LOOK_AROUND), environment={"PYTHONPATH": path})


def test_a_module_of_a_package_runs_as_main(runner: "Runner") -> None:
    runner.script("", "pack/__init__.py")
    runner.script(LOOK_AROUND, "pack/inner.py")
    runner.script(LOOK_AROUND, "pack/__main__.py")
    assert runner.both("-m", "pack.inner", "-q").status == 0
    assert runner.both("-m", "pack", "-q").status == 0
    assert runner.both("-mpack", "-c").status == 0


def test_a_folder_and_a_zip_file_run_as_programs(runner: "Runner") -> None:
    runner.script(LOOK_AROUND, "folder/__main__.py")
    assert runner.both("folder").status == 0
    subprocess.run([sys.executable, "-m", "zipapp", "folder"], cwd=runner.folder, check=True)
    assert runner.both("folder.pyz").status == 0


def test_code_on_the_command_line_runs(runner: "Runner") -> None:
    assert runner.both("-c", LOOK_AROUND, "-c", "second").status == 0
    assert runner.both("-cprint(6)").stdout == b"6\n"


def test_a_program_from_standard_input_runs(runner: "Runner") -> None:
    assert runner.both("-", "argument", stdin=LOOK_AROUND.encode()).status == 0


def test_standard_input_belongs_to_the_program(runner: "Runner") -> None:
    data = os.urandom(100_000)
    script = runner.script("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())")
    assert runner.both(script, stdin=data).stdout == data


@pytest.mark.parametrize(
    "program",
    [
        ("missing.py",),
        ("-m", "no_such_module"),
        ("-m", "os.no_such"),
        ("-m",),
        ("-c",),
        ("-c", "def"),
        ("folder",),
    ],
    ids=" ".join,
)
def test_a_program_that_is_not_one_fails_as_under_python(runner: "Runner", program: tuple[str, ...]) -> None:
    (runner.folder / "folder").mkdir()
    assert runner.both(*program).status != 0


@pytest.mark.parametrize(
    "text",
    [
        "def broken(:\n    pass\n",
        "  x = 1\n",
        "x = '\udcff'\n",
    ],
    ids=["syntax", "indentation", "encoding"],
)
def test_a_script_that_does_not_compile_fails_as_under_python(runner: "Runner", text: str) -> None:
    (runner.folder / "app.py").write_bytes(text.encode(errors="surrogateescape"))
    assert runner.both("app.py").status == 1


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("import sys; sys.exit()", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('text')", 1),
        ("import sys; sys.exit(-1)", 255),
        ("import sys; sys.exit(256)", 0),
        ("raise SystemExit(True)", 1),
        ("def f():\n    1 / 0\ndef g():\n    try:\n        f()\n    finally:\n        {}['x']\ng()", 1),
        ("raise ExceptionGroup('many', [ValueError(1), KeyError('two')])", 1),
        ("import atexit; atexit.register(print, 'bye'); 1 / 0", 1),
        ("import os, sys; print('lost', end=''); sys.stdout = None; os._exit(3)", 3),
        ("import os; os._exit(status=4)", 4),
        ("import os; os._exit(256 + 7)", 7),
        ("import os; os._exit('x')", 1),
        ("import os; os._exit()", 1),
        ("import os; os._exit(2**40)", 1),
        ("import threading, os; threading.Thread(target=os._exit, args=(9,)).start()", 9),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("import os; os.abort()", -signal.SIGABRT),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_a_program_ends_as_under_python(runner: "Runner", text: str, status: int) -> None:
    script = runner.script(text)
    assert runner.both(script).status == status
    assert runner.both("-m", "app").status == status
    assert runner.both("-c", text).status == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_from_outside_ends_it_as_it_would_end_python(runner: "Runner", number: int) -> None:
    script = runner.script("import time\nprint('ready', flush=True)\ntime.sleep(60)")
    assert runner.both(script, interact=runner.signal_when_ready(number)).status == -number


def test_a_program_may_handle_its_own_signals(runner: "Runner") -> None:
    script = runner.script(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(42))\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    assert runner.both(script, interact=runner.signal_when_ready(signal.SIGTERM)).status == 42


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS"])
@pytest.mark.parametrize("handler", ["SIG_DFL", "SIG_IGN", "lambda number, frame: print('handled', number)"])
def test_its_own_handler_of_a_fault_signal_is_called_for_kill(runner: "Runner", name: str, handler: str) -> None:
    handler = f"signal.{handler}" if handler.startswith("SIG") else handler
    script = runner.script(
        f"import os, signal\nsignal.signal(signal.{name}, {handler})\n"
        f"print(signal.getsignal(signal.{name}) is not None)\n"
        f"os.kill(os.getpid(), signal.{name})\nprint('alive')\n"
    )
    runner.both(script)


@pytest.mark.parametrize("call", ["signal.signal(signal.SIGKILL, signal.SIG_IGN)", "signal.signal(1, 2, 3)"])
def test_a_refused_handler_has_the_traceback_it_has_under_python(runner: "Runner", call: str) -> None:
    assert runner.both(runner.script(f"import signal\n{call}\n")).status == 1


FORK = """
import os, sys
child = os.fork()
if child == 0:
    print("child", flush=True)
    {how}
print("parent", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("how", ["os._exit(5)", "sys.exit(6)", "1 / 0", "os.abort()", "os._exit(0)"])
def test_a_forked_child_ends_as_under_python(runner: "Runner", how: str) -> None:
    # An error on any warning: Python warns of a fork in a process with threads.
    script = runner.script(FORK.format(how=how))
    assert b"parent" in runner.both(script, flags=["-W", "error"]).stdout


MULTIPROCESSING = """
import multiprocessing, os, sys

def work(number):
    return number * number, "MEMPROT_RUN" in os.environ, [p for p in sys.path if "startup" in p]

if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        print(pool.map(work, range(4)))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_works_as_under_python(runner: "Runner", method: str) -> None:
    done = runner.both(runner.script(MULTIPROCESSING.format(method=method)), flags=["-W", "error"])
    assert done.status == 0


def test_children_are_not_guarded_and_see_no_trace(runner: "Runner") -> None:
    code = "import os, sys; print('memprot' in sys.modules, os.environ.get('PYTHONPATH'))"
    script = runner.script(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])")
    assert runner.both(script, environment={"PYTHONPATH": "here"}).stdout == b"False here\n"


DEATH = "import ctypes, faulthandler, os, signal, sys\n{before}\nos.kill(os.getpid(), signal.SIGSEGV)\n"


@pytest.mark.parametrize(
    "before",
    [
        "faulthandler.enable()",
        "faulthandler.enable(); faulthandler.disable()",
        "faulthandler.enable(file=sys.stdout, all_threads=False)",
        "faulthandler.disable(); faulthandler.register(signal.SIGUSR1); os.kill(os.getpid(), signal.SIGUSR1)",
    ],
)
def test_faulthandler_in_the_program_tells_what_it_tells_under_python(runner: "Runner", before: str) -> None:
    done = runner.both(runner.script(DEATH.format(before=before)))
    assert done.status == -signal.SIGSEGV


def test_faulthandler_in_front_of_the_program_tells_what_it_tells_under_python(runner: "Runner") -> None:
    script = runner.script(DEATH.format(before=""))
    done = runner.both(script, flags=["-X", "faulthandler"])
    assert b"Fatal Python error: Segmentation fault" in done.stderr
    assert runner.both(script, environment={"PYTHONFAULTHANDLER": "1"}) == done


def test_what_memprot_replaces_looks_and_pickles_as_before(runner: "Runner") -> None:
    script = runner.script(
        "import faulthandler, os, pickle, posix, signal\n"
        "for f in (os._exit, signal.signal, faulthandler.enable, faulthandler.disable):\n"
        "    print(f.__name__, f.__qualname__, f.__module__, type(f), f.__doc__)\n"
        "    print(getattr(f, '__text_signature__', None))\n"
        "    print(pickle.loads(pickle.dumps(f)) is f)\n"
        "print(os._exit is posix._exit, os._exit)\n"
        "class Holder:\n    leave = os._exit\n"
        "Holder().leave(3)\n"
    )
    assert runner.both(script).status == 3


def test_warnings_are_those_of_python(runner: "Runner") -> None:
    script = runner.script("import warnings; warnings.warn('old', DeprecationWarning); open('app.py')\n")
    runner.both(script)
    runner.both(script, flags=["-X", "dev"])
    assert runner.both(script, flags=["-W", "error"]).status == 1
    assert runner.both(script, environment={"PYTHONWARNINGS": "error"}).status == 1


def test_flags_of_the_interpreter_reach_the_program(runner: "Runner") -> None:
    flags = ["-O", "-s", "-b", "-u", "-P", "-X", "utf8", "-X", "int_max_str_digits=5000", "-X", "mine=1"]
    runner.both(runner.script(LOOK_AROUND), flags=flags)


def test_the_users_sitecustomize_runs_once_in_the_program(runner: "Runner") -> None:
    runner.script("import sys\nsys.visits = getattr(sys, 'visits', 0) + 1\n", "site/sitecustomize.py")
    script = runner.script("import sys; print(sys.visits, sys.modules['sitecustomize'], sys.path)")
    assert runner.both(script, environment={"PYTHONPATH": "site"}).stdout.startswith(b"1 ")


@pytest.mark.parametrize("text", ["raise RuntimeError('broken site')", "import no_such_module", "1 +"])
def test_a_broken_sitecustomize_of_the_user_is_told_as_under_python(runner: "Runner", text: str) -> None:
    runner.script(text, "site/sitecustomize.py")
    script = runner.script("import sys; print('sitecustomize' in sys.modules)")
    plain, guarded = (
        runner.run(command, environment={"PYTHONPATH": "site"})
        for command in ((sys.executable, script), (sys.executable, "-m", "memprot", "run", "--quiet", script))
    )
    # Python tells it once more when it runs the launcher.
    assert guarded == plain._replace(stderr=2 * plain.stderr)


def test_callbacks_at_exit_run_in_the_order_of_python(runner: "Runner") -> None:
    script = runner.script("import atexit; atexit.register(print, 1); atexit.register(print, 2); print(0)")
    assert runner.both(script).stdout == b"0\n2\n1\n"
    assert runner.both(runner.script("import atexit; atexit._clear(); atexit._run_exitfuncs()")).status == 0


def test_no_thread_and_no_descriptor_is_added(runner: "Runner") -> None:
    script = runner.script(
        "import os, threading, time\nprint(threading.active_count(), sorted(os.listdir('/proc/self/fd')))\n"
    )
    runner.both(script)


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_it_runs_without_a_standard_stream(runner: "Runner", closed: int) -> None:
    script = runner.script("import sys; print(sys.stdin is None, sys.stdout is None, sys.stderr is None)")
    python = sys.executable
    plain, guarded = (
        runner.run(["sh", "-c", f'exec "$@" {closed}{"<" if closed == 0 else ">"}&-', "sh", python, *command])
        for command in ((script,), ("-m", "memprot", "run", "--quiet", script))
    )
    assert guarded == plain


def test_a_full_standard_output_is_told_by_python(runner: "Runner") -> None:
    script = runner.script("print('x')")
    command = 'exec "$@" >/dev/full'
    plain, guarded = (
        runner.run(["sh", "-c", command, "sh", sys.executable, *rest])
        for rest in ((script,), ("-m", "memprot", "run", "--quiet", script))
    )
    assert guarded == plain
    assert plain.status == 120


def test_another_working_directory_does_not_matter(runner: "Runner", tmp_path: Path) -> None:
    script = runner.script("import os; os.chdir('/'); import json; print(os.getcwd())")
    assert runner.both(str(tmp_path / script)).stdout == b"/\n"
