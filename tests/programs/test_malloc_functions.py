"""malloc and its relatives keep what their man pages promise, guarded or not."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from preloaded import built, guarded, run

SUBJECTS = ("malloc", "calloc", "realloc", "aligned", "errno", "threads", "forks", "libraries", "constructors")
WAYS = {
    "each": "",
    "left": "side=left",
    "by turns": "side=turns",
    "one in 3": "sample=3",
    "in quarantine": "quarantine=16777216",
    "aligned to 64": "align=64",
}


@pytest.fixture(scope="session")
def allocation(tmp_path_factory: pytest.TempPathFactory) -> str:
    return built(tmp_path_factory.mktemp("allocation"), "allocation.c")


def passes(done: "subprocess.CompletedProcess[bytes]") -> None:
    assert (done.stderr, done.stdout, done.returncode) == (b"", b"passed\n", 0)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_c_library_keeps_its_promises(allocation: str, subject: str) -> None:
    passes(run(allocation, subject))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_guarded_blocks_keep_them_and_all_are_guarded(allocation: str, subject: str) -> None:
    passes(run(allocation, subject, "guarded", environment=guarded()))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_promises_are_kept_in_every_way_of_guarding(allocation: str, subject: str, way: str) -> None:
    passes(run(allocation, subject, environment=guarded(WAYS[way])))


def test_a_library_that_is_only_preloaded_guards_nothing(allocation: str) -> None:
    passes(run(allocation, "malloc", environment=guarded(None)))
    assert b"guard_size" in run(allocation, "malloc", "guarded", environment=guarded(None)).stderr


@pytest.mark.parametrize(
    "word", ["sample=0", "sample=-1", "sample=x", "side=up", "align=3", "align=8192", "quarantine=", "more=1", "sample"]
)
def test_an_unknown_word_is_one_line_and_the_program_runs_unguarded(allocation: str, word: str) -> None:
    done = run(allocation, "malloc", environment=guarded(f"side=left {word} align=16"))
    assert (done.returncode, done.stdout) == (0, b"passed\n")
    assert done.stderr.startswith(f"memprot: MEMPROT_MALLOC: unknown word '{word}'".encode())
    assert done.stderr.count(b"\n") == 1
    assert b"guard_size" in run(allocation, "malloc", "guarded", environment=guarded(word)).stderr


@pytest.mark.parametrize(("side", "offset"), [("right", 32), ("left", -1)])
def test_a_byte_beside_a_block_is_out_of_reach(tmp_path: Path, side: str, offset: int) -> None:
    source = tmp_path / "over.c"
    source.write_text(
        f"#include <stdlib.h>\nint main(void) {{ volatile char *block = malloc(32); block[{offset}] = 1; return 0; }}\n"
    )
    subprocess.run(["cc", "-O0", "-o", "over", "over.c"], cwd=tmp_path, check=True)
    assert run(str(tmp_path / "over")).returncode == 0
    done = run(str(tmp_path / "over"), environment=guarded(f"side={side}"))
    assert done.returncode == -signal.SIGSEGV


@pytest.mark.parametrize("words", ["", "side=left", "sample=7"])
def test_objects_of_every_kind_are_guarded(tmp_path: Path, words: str) -> None:
    objects = built(tmp_path, "objects.cpp", "-std=c++17")
    assert run(objects).stdout == b"0\n"
    done = run(objects, environment=guarded(words))
    assert (done.stderr, done.returncode) == (b"", 0)
    assert done.stdout == b"6\n" or "sample" in words


def test_python_without_memprot_runs_with_every_block_guarded() -> None:
    code = "import json, threading, ctypes, sqlite3, re; print(len(json.dumps(list(range(100000)))))"
    done = run(sys.executable, "-c", code, environment=guarded("", PYTHONMALLOC="malloc"))
    assert (done.stderr, done.stdout, done.returncode) == (b"", b"688890\n", 0)
