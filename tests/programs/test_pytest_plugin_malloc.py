"""``pytest --memprot=malloc``: pytest starts itself anew in a process whose malloc is memprot's."""

from collections.abc import Callable

import pytest

pytest_plugins = ["pytester"]

SUITE = """
import ctypes, os, sys
import pytest, misbehave

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def test_behind():
    misbehave.write(libc.malloc(64) + 64, 1)

def test_found_when_it_is_freed():
    block = libc.malloc(60)
    misbehave.write(block + 61, 1)
    libc.free(block)

@pytest.mark.memprot(side="left")
def test_before():
    misbehave.write(libc.malloc(64) - 1, 1)

@pytest.mark.no_memprot
def test_not_guarded():
    block = libc.malloc(64)
    misbehave.write(block + 63, 1)
    libc.free(block)

def test_what_tests_start_is_not_guarded():
    assert "libmemprot_malloc" not in os.environ.get("LD_PRELOAD", "")
    assert "MEMPROT_PYTEST_RESTARTED" not in os.environ
"""


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_both_sides_of_blocks_of_malloc_and_what_is_overwritten_fail_their_tests(
    run_pytest: Callable[..., pytest.RunResult], arguments: tuple[str, ...]
) -> None:
    result = run_pytest(SUITE, "--memprot=malloc", *arguments)
    result.assert_outcomes(passed=2, failed=3)
    told = result.stdout.str()
    for words in (
        "write of 1 byte, 0 bytes past the end of a block of 64 bytes",
        "1 byte was overwritten, 1 byte past the end of a block of 60 bytes",
        "write of 1 byte, 1 byte before the start of a block of 64 bytes",
    ):
        assert f"memprot: {words}" in told
    assert "memprot: 3 faults in 3 tests; " in told
    assert " malloc blocks guarded" in told


def test_inside_another_program_one_line_says_how_to_start_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite="def test_it():\n    pass\n")
    program = pytester.makepyfile(program="import pytest\nraise SystemExit(pytest.main(['--memprot=malloc']))\n")
    result = pytester.runpython(program)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line]
    assert line.endswith("start it with: memprot run --guard malloc -m pytest --memprot=malloc")
