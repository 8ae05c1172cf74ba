"""Programs that know nothing of memprot do what they did, with each block of malloc guarded."""

import shutil
import sys
from pathlib import Path

import pytest
from neighbour import needs
from preloaded import guarded, run

WAYS = ["", "side=left quarantine=33554432", "sample=10 side=random"]


def requires(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def is_the_same(*command: str, words: str, folder: Path | None = None, given: bytes = b"") -> None:
    plain = run(*command, folder=folder, given=given)
    done = run(*command, environment=guarded(words), folder=folder, given=given)
    assert plain.returncode == 0
    assert (done.stderr, done.stdout, done.returncode) == (plain.stderr, plain.stdout, 0)


@pytest.mark.parametrize("words", WAYS)
def test_bash_runs_loops_subshells_and_pipes(words: str) -> None:
    script = "for i in {1..20}; do a[i]=$((i * i)); done; echo ${a[*]} | (read -r line; echo ${#line}); echo $(echo x)"
    is_the_same("bash", "-c", script, words=words)


@requires("git")
@pytest.mark.parametrize("words", WAYS)
def test_git_keeps_a_repository(tmp_path: Path, words: str) -> None:
    (tmp_path / "file").write_text("text\n" * 1000)
    for command in (["init", "-q"], ["add", "."]):
        assert run("git", *command, environment=guarded(words), folder=tmp_path).returncode == 0
    is_the_same("git", "write-tree", words=words, folder=tmp_path)
    is_the_same("git", "fsck", "--no-progress", words=words, folder=tmp_path)


@pytest.mark.parametrize("words", WAYS[:2])
def test_gcc_compiles_to_the_same_bytes(tmp_path: Path, words: str) -> None:
    (tmp_path / "code.c").write_text(
        '#include <stdio.h>\nint main(int argc, char **argv) { printf("%d %s\\n", argc, *argv); return argc; }\n'
    )
    for name, environment in (("plain.o", None), ("guarded.o", guarded(words))):
        done = run("gcc", "-O2", "-c", "code.c", "-o", name, environment=environment, folder=tmp_path)
        assert (done.stderr, done.returncode) == (b"", 0)
    assert (tmp_path / "plain.o").read_bytes() == (tmp_path / "guarded.o").read_bytes()


@pytest.mark.parametrize("words", WAYS)
def test_sort_and_gzip_and_awk(words: str) -> None:
    given = b"".join(b"%d line\n" % (number * 7919 % 10007) for number in range(20000))
    is_the_same("sort", "-n", "--parallel=4", words=words, given=given)
    is_the_same("gzip", "-n", words=words, given=given)
    is_the_same(
        "awk", '{ seen[$1 % 97]++ } END { for (key in seen) print key, seen[key] | "sort" }', words=words, given=given
    )


@pytest.mark.parametrize("words", WAYS)
def test_sqlite_keeps_its_tables(words: str) -> None:
    code = (
        "import sqlite3; db = sqlite3.connect(':memory:'); db.execute('create table t(a, b)')\n"
        "db.executemany('insert into t values (?, ?)', ((n, str(n) * 5) for n in range(5000)))\n"
        "db.execute('create index i on t(b)'); print(db.execute('select sum(a), max(b) from t').fetchall())"
    )
    is_the_same(sys.executable, "-c", code, words=words)


@pytest.mark.parametrize("words", WAYS)
def test_openblas_multiplies_in_its_threads(words: str) -> None:
    code = (
        "import numpy; a = numpy.arange(250000.).reshape(500, 500) % 17\n"
        "print(float((a @ a.T).sum()), float(numpy.linalg.det(a[:50, :50] + numpy.eye(50)) > 0))"
    )
    is_the_same(sys.executable, "-c", code, words=words)


@needs("pyarrow")
@pytest.mark.parametrize("words", WAYS)
def test_arrow_computes(words: str) -> None:
    code = (
        "import pyarrow, pyarrow.compute; table = pyarrow.table({'a': list(range(100000))})\n"
        "print(pyarrow.compute.sum(table['a']), table.sort_by([('a', 'descending')])['a'][0])"
    )
    is_the_same(sys.executable, "-c", code, words=words)


@needs("torch")
@pytest.mark.parametrize("words", WAYS)
def test_torch_computes(words: str) -> None:
    code = (
        "import torch; a = torch.arange(10000.).reshape(100, 100); print((a @ a).sum().item(), a.sort().values[0, 0])"
    )
    is_the_same(sys.executable, "-c", code, words=words)


def test_what_a_program_executes_is_guarded_as_it_is() -> None:
    """The variables are the launcher's to remove; the library itself passes them on."""
    done = run("sh", "-c", "exec env", environment=guarded("sample=5"))
    assert b"MEMPROT_MALLOC=sample=5\n" in done.stdout
