"""What ``memprot run`` is made of, piece by piece."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memprot import _native
from memprot.run.options import Options
from memprot.run.summary import summary


def python(code: str, folder: Path, *flags: str) -> str:
    command = [sys.executable, *flags, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.stderr == ""
    return done.stdout


def test_options_survive_their_way_through_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-W", "error", "app.py", "a b"])
    path = "/a b\n c%1f%25\x1f/\udcff.json"
    options = Options("log", "left", 9, True, path, 8, ("raw", "malloc"), 1000, 1 << 26, True)
    read, argv = Options.from_text(options.as_text(flags=2))
    assert [getattr(read, name) for name in Options.__slots__] == [getattr(options, name) for name in Options.__slots__]
    assert argv == ["app.py", "a b"]
    assert Options.from_text(Options().as_text(flags=0))[0].json is None


HOOK = "from memprot.run.on_import import when_imported\nimport sys\n"


def test_a_module_is_noticed_once_right_after_its_execution(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("print('body')\n")
    (tmp_path / "other.py").write_text("")
    code = HOOK + (
        "before = list(sys.meta_path)\n"
        "when_imported(['never', 'late'], lambda: print('noticed', 'late' in sys.modules))\n"
        "import other\nimport late\nprint(sys.meta_path == before, vars(late.__loader__).keys())\n"
        "del sys.modules['late']\nimport late\n"
    )
    plain = "dict_keys(['name', 'path'])"
    assert python(code, tmp_path) == f"body\nnoticed True\nTrue {plain}\nbody\n"


def test_a_module_that_fails_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("import sys\nif not hasattr(sys, 'tried'): sys.tried = 1; 1 / 0\n")
    code = HOOK + (
        "when_imported(['late'], lambda: print('noticed'))\n"
        "try:\n    import late\nexcept ZeroDivisionError:\n    print('failed')\nimport late\n"
    )
    assert python(code, tmp_path) == "failed\nnoticed\n"


def test_a_module_that_is_not_there_is_missing_as_ever(tmp_path: Path) -> None:
    code = HOOK + (
        "when_imported(['late'], print)\n"
        "try:\n    import late\nexcept ModuleNotFoundError as error:\n    print(error.name)\n"
    )
    assert python(code, tmp_path) == "late\n"


def test_the_engine_goes_in_front_after_each_neighbour(tmp_path: Path) -> None:
    code = (
        "from memprot.run.neighbours import keep_in_front\n"
        "import faulthandler, signal\n"
        "keep_in_front(lambda: print('front'))\n"
        "for call in ('faulthandler.enable()', 'faulthandler.disable()',\n"
        "             'signal.signal(signal.SIGSEGV, signal.SIG_DFL)', 'signal.signal(7, signal.SIG_IGN)',\n"
        "             'signal.signal(signal.SIGTERM, signal.SIG_DFL)', 'faulthandler.is_enabled()'):\n"
        "    print(call); eval(call)\n"
        "try:\n    signal.signal(signal.SIGSEGV, 'nonsense')\nexcept TypeError:\n    print('refused')\n"
    )
    assert python(code, tmp_path).splitlines() == [
        "faulthandler.enable()",
        "front",
        "faulthandler.disable()",
        "front",
        "signal.signal(signal.SIGSEGV, signal.SIG_DFL)",
        "front",
        "signal.signal(7, signal.SIG_IGN)",
        "front",
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)",
        "faulthandler.is_enabled()",
        "refused",
    ]


def test_what_a_bystander_raises_does_not_reach_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: caught.append(unraisable.exc_type))

    def fail(*args: object) -> None:
        raise RuntimeError

    assert _native.interpose(len, before=fail, after=fail)("abc") == 3
    assert caught == [RuntimeError, RuntimeError]


def test_only_builtins_can_be_interposed() -> None:
    with pytest.raises(TypeError):
        _native.interpose(lambda: None)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, 0, {"numpy": {}}), "memprot: no faults. No NumPy array was guarded: there was none.\n"),
        (
            (1, 1, {"numpy": {"arrays": 1, "bytes": 13, "overhead": 4083}}),
            "memprot: 1 fault. 1 NumPy array was guarded, 13 bytes in all, for 4.0 KiB of memory at most.\n",
        ),
        (
            (9, 2, {"numpy": {"arrays": 2, "bytes": 3 << 40, "overhead": 0, "unguarded": 1}}, {"numpy": 3}),
            (
                "memprot: 9 faults, 2 of them distinct. 2 NumPy arrays were guarded, 3.0 TiB in all, for "
                "0 bytes of memory at most.\nmemprot: 1 array was left without a guard: the limit of data (ulimit -d) "
                "leaves no room for more.\n"
            ),
        ),
        (
            (0, 0, {"raw": {"blocks": 1, "bytes": 8}, "malloc": {"blocks": 1200}}),
            (
                "memprot: no faults. 1 block of Python's raw memory was guarded, 8 bytes in all, for 0 bytes of memory "
                "at most.\nmemprot: 1,200 blocks of malloc were guarded, 0 bytes in all, for 0 bytes of memory at "
                "most.\n"
            ),
        ),
        ((3, 1, {}), "memprot: 3 faults, all alike.\n"),
    ],
)
def test_the_summary_counts(arguments: tuple[Any, ...], expected: str) -> None:
    assert summary(*arguments) == expected


def test_few_modules_are_loaded_before_the_program(tmp_path: Path) -> None:
    """None of those that are dear, or that a program could tell us by."""
    code = "import sys; print(*sys.modules, sep='\\n')"
    before = set(python(code, tmp_path).split())
    command = [sys.executable, "-m", "memprot", "run", "--quiet", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    added = set(done.stdout.split()) - before
    assert not added & {"numpy", "click", "rich", "json", "linecache", "sysconfig", "subprocess", "logging"}
