"""Memory errors of programs that are not Python, as ``memprot run`` tells them."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner, Watched

RUN = (sys.executable, "-m", "memprot", "run")
SOURCE = Path(__file__).parent.parent / "native" / "heap.c"


@pytest.fixture(scope="module")
def heap(tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("heap") / "heap"
    subprocess.run(["cc", "-O1", "-g", "-pthread", "-o", target, SOURCE], check=True)
    return str(target)


def functions(fault: Any) -> list[str | None]:
    return [frame["function"] for frame in fault["native"]]


def dies(done: "Watched", number: int = signal.SIGSEGV) -> Any:
    """The fault the program died of."""
    assert (done.status, done.document["exit"]) == (-number, -number)
    assert done.stdout == "ready\n"
    fault = done.fault
    assert fault["python"] is None
    return fault


@pytest.mark.parametrize("on_fault", ["raise", "abort"])
def test_a_write_past_the_end_is_told_with_its_function_and_kills(runner: "Runner", heap: str, on_fault: str) -> None:
    done = runner.watch(heap, "overflow", options=("--on-fault", on_fault))
    fault = dies(done)
    assert (fault["kind"], fault["access"], fault["size"], fault["distance"]) == ("overflow", "write", 1, 0)
    assert fault["object"]["nbytes"] == 48
    assert functions(fault)[:3] == ["put", "overflow", "main"]
    assert done.stderr.startswith("memprot: write of 1 byte, 0 bytes past the end of a block of 48 bytes\n")
    assert "The program dies of SIGSEGV" in done.stderr
    assert "in process" not in done.stderr


def test_a_write_before_the_start_needs_the_guard_there(runner: "Runner", heap: str) -> None:
    fault = dies(runner.watch(heap, "underflow", options=("--side", "left")))
    assert (fault["kind"], fault["distance"]) == ("underflow", -1)


@pytest.mark.parametrize("how", ["copy", "length"])
def test_reads_past_the_end_are_told_whoever_makes_them(runner: "Runner", heap: str, how: str) -> None:
    fault = dies(runner.watch(heap, how))
    assert (fault["kind"], fault["access"], fault["distance"]) == ("overflow", "read", 0)
    assert "main" in functions(fault)


@pytest.mark.parametrize("on_fault", ["raise", "log"])
def test_what_the_kernel_refuses_to_write_for_the_program_is_told(runner: "Runner", heap: str, on_fault: str) -> None:
    done = runner.watch(heap, "read-call", options=("--on-fault", on_fault))
    fault = done.fault
    assert (fault["kind"], fault["access"], fault["distance"]) == ("overflow", "write", 0)
    assert fault["call"]["function"] == "read"
    assert functions(fault)[0] == "main"
    assert done.status == (-signal.SIGABRT if on_fault == "raise" else 0)


def origin(stack: Any) -> list[str | None]:
    return [frame["function"] for frame in stack["native"]]


def test_a_use_after_free_is_told_with_all_three_stacks(runner: "Runner", heap: str) -> None:
    done = runner.watch(heap, "use-after-free", options=("--quarantine", "1MiB"))
    fault = dies(done)
    assert (fault["kind"], fault["access"], fault["distance"]) == ("use-after-free", "write", 0)
    assert functions(fault)[:2] == ["put", "main"]
    assert origin(fault["object"]["allocated"])[:2] == ["make_block", "main"]
    assert origin(fault["object"]["freed"])[:2] == ["drop", "main"]
    assert "allocated by heap: make_block+" in done.stderr
    assert "freed by heap: drop+" in done.stderr


@pytest.mark.parametrize(
    ("how", "kind"), [("double-free", "double-free"), ("wild-free", "wild-free"), ("slack", "slack")]
)
def test_what_is_found_without_a_signal_ends_in_an_abort(runner: "Runner", heap: str, how: str, kind: str) -> None:
    done = runner.watch(heap, how, options=("--quarantine", "1MiB"))
    fault = dies(done, signal.SIGABRT)
    assert fault["kind"] == kind
    assert functions(fault)[:2] == ["drop", "main"]
    assert origin(fault["object"]["allocated"])[:2] == ["make_block", "main"]
    assert "The program dies of SIGABRT" in done.stderr


@pytest.mark.parametrize("how", ["double-free", "wild-free", "slack", "use-after-free"])
def test_a_program_that_is_only_watched_goes_on_past_all_of_them(runner: "Runner", heap: str, how: str) -> None:
    done = runner.watch(heap, how, options=("--quarantine", "1MiB", "--on-fault", "log"))
    assert (done.status, done.document["exit"], done.stdout) == (0, 0, "ready\ndone\n")
    assert (done.fault["kind"], done.fault["recovered"]) == (how, True)
    assert "memprot: 1 fault. " in done.stderr


@pytest.mark.parametrize("how", ["nothing", "overflow", "double-free", "use-after-free", "read-call", "null", "fork"])
@pytest.mark.parametrize("on_fault", ["raise", "log"])
def test_documents_are_as_the_schema_says(runner: "Runner", heap: str, how: str, on_fault: str) -> None:
    fastjsonschema = pytest.importorskip("fastjsonschema")
    schema = json.loads(runner.run([*RUN, "--json-schema"]).stdout)
    runner.watch(heap, how, options=("--quarantine", "1MiB", "--on-fault", on_fault))
    for path in runner.folder.glob("report.json*"):
        fastjsonschema.compile(schema)(json.loads(path.read_text()))


def test_a_program_in_the_place_of_another_adds_to_its_document(runner: "Runner", heap: str) -> None:
    often = ("overflow-often", "--", heap, "overflow-often")
    done = runner.watch(heap, *often, options=("--follow", "--on-fault", "log"))
    assert [fault["count"] for fault in done.document["faults"]] == [1, 5]


def test_a_thread_is_named(runner: "Runner", heap: str) -> None:
    fault = dies(runner.watch(heap, "thread"))
    assert (fault["kind"], fault["thread"]["name"]) == ("overflow", "heap")
    assert functions(fault)[:2] == ["put", "in_thread"]


def test_what_is_no_guard_is_told_as_well(runner: "Runner", heap: str) -> None:
    fault = dies(runner.watch(heap, "null"))
    assert (fault["kind"], fault["address"], fault["object"]) == ("unmapped", "0x0", None)
    assert functions(fault)[:2] == ["put", "main"]


def test_what_is_known_is_suppressed_and_counted(runner: "Runner", heap: str) -> None:
    log = ("--on-fault", "log")
    runner.watch(heap, "overflow-often", options=(*log, "--gen-suppressions=known.supp"))
    assert "function: put" in (runner.folder / "known.supp").read_text()
    done = runner.watch(heap, "overflow-often", options=(*log, "--suppressions", "known.supp", "--error-exitcode", "9"))
    assert (done.status, done.document["faults"]) == (0, [])
    assert [known["count"] for known in done.document["suppressed"]] == [5]
    assert "memprot: no faults. " in done.stderr
    assert "memprot: 5 faults were suppressed.\n" in done.stderr


def test_a_stack_overflow_is_told(runner: "Runner", heap: str) -> None:
    fault = dies(runner.watch(heap, "descend"))
    assert fault["kind"] == "stack-overflow"
    assert functions(fault)[:2] == ["descend", "descend"]


def test_alike_faults_are_told_once_and_counted_when_the_program_goes_on(runner: "Runner", heap: str) -> None:
    done = runner.watch(heap, "overflow-often", options=("--on-fault", "log", "--error-exitcode", "9"))
    assert (done.status, done.document["exit"], done.stdout) == (9, 9, "ready\ndone\n")
    assert (done.fault["kind"], done.fault["count"], done.fault["recovered"]) == ("overflow", 5, True)
    assert done.stderr.count("bytes past the end") == 1
    assert "The program goes on; no byte of the program's data was changed." in done.stderr
    assert "memprot: 5 faults, all alike. " in done.stderr


def test_the_exit_status_of_a_program_that_fails_by_itself_stays(runner: "Runner", heap: str) -> None:
    done = runner.watch(heap, "exit", "3", options=("--error-exitcode", "9"))
    assert (done.status, done.document["exit"], done.document["faults"]) == (3, 3, [])
    assert done.document["argv"] == [heap, "exit", "3"]
    guarded = done.document["guarded"]
    assert (guarded["malloc"]["blocks"] > 0, guarded["numpy"]["arrays"]) == (True, 0)


@pytest.mark.parametrize("how", ["exit", "_exit", "quick_exit"])
def test_every_way_to_exit_leaves_the_summary(runner: "Runner", heap: str, how: str) -> None:
    done = runner.watch(heap, how, "3")
    assert (done.status, done.document["exit"]) == (3, 3)
    assert done.stderr.startswith("memprot: no faults. ")
    assert "blocks of malloc were guarded" in done.stderr


def test_a_forked_child_tells_its_own_faults(runner: "Runner", heap: str) -> None:
    done = runner.watch(heap, "fork")
    assert (done.status, done.stdout) == (0, f"ready\nchild {int(signal.SIGSEGV)} 0\ndone\n".replace("done\n", ""))
    (path,) = runner.folder.glob("report.json.*")
    assert f"memprot: in process {path.suffix[1:]}, {heap}:\nmemprot: write of 1 byte, 0 bytes past" in done.stderr
    assert "memprot: no faults. " in done.stderr
    assert [fault["kind"] for fault in json.loads(path.read_text())["faults"]] == ["overflow"]
    assert (done.document["exit"], done.document["faults"]) == (0, [])


def test_what_a_program_executes_is_watched_on_request(runner: "Runner", heap: str) -> None:
    alone = runner.watch(heap, "exec", heap, "overflow")
    assert (alone.status, alone.document["faults"]) == (0, [])
    followed = runner.watch(heap, "exec", heap, "overflow", options=("--follow",))
    assert (followed.status, followed.fault["kind"]) == (-signal.SIGSEGV, "overflow")


def test_children_of_children_are_followed_and_named(runner: "Runner", heap: str) -> None:
    command = f"{heap} overflow; {heap} exit 4; echo $?"
    done = runner.watch("--", "sh", "-c", command, options=("--follow", "--quiet"))
    assert done.stdout.splitlines() == ["ready", "ready", "4"]
    assert f", {heap}:\nmemprot: write of 1 byte" in done.stderr
    assert done.document["faults"] == []
    (path,) = runner.folder.glob("report.json.*")
    child = json.loads(path.read_text())
    assert (child["argv"], child["exit"]) == ([heap, "overflow"], -signal.SIGSEGV)


def test_a_handler_of_the_program_runs_after_the_report(runner: "Runner", heap: str) -> None:
    done = runner.watch(heap, "handled-overflow")
    assert (done.status, done.stdout) == (0, "ready\ncaught 1\ndone\n")
    assert "0 bytes past the end of a block of 48 bytes" in done.stderr


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_new_and_containers_of_cpp_are_guarded(runner: "Runner") -> None:
    source = runner.folder / "vector.cpp"
    source.write_text(
        "#include <vector>\n"
        "int main() {\n"
        "    std::vector<long> numbers(4, 1);\n"
        "    volatile long *last = numbers.data() + numbers.size();\n"
        "    *last = 5;\n"
        "}\n"
    )
    subprocess.run(["c++", "-g", "-O1", "-o", runner.folder / "vector", source], check=True)
    done = runner.watch("./vector")
    assert done.status == -signal.SIGSEGV
    fault = done.fault
    assert (fault["kind"], fault["distance"], fault["object"]["nbytes"]) == ("overflow", 0, 32)
    assert functions(fault)[0] == "main"
