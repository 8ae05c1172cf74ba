"""What breaks Python's own memory, under ``memprot run --guard raw,mem,obj``: named with the line that made it."""

import signal
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner, Watched

pytestmark = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="this Python's objects stay with its own allocator"
)

PROGRAM = """
import array, ctypes, misbehave

def items_of(values):
    return ctypes.c_void_p.from_address(id(values) + list.__basicsize__ - 16).value

def buffer_of(data):
    return ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data))

def function(name, *arguments):
    found = ctypes.pythonapi[name]
    found.argtypes, found.restype = arguments, ctypes.c_void_p
    return found

malloc = function("PyMem_Malloc", ctypes.c_size_t)
realloc = function("PyMem_Realloc", ctypes.c_void_p, ctypes.c_size_t)
free = function("PyMem_Free", ctypes.c_void_p)

class Slotted:
    __slots__ = ("first", "second")

def make():
    return {made}

made = make()

def break_it():
    global made
    {broken}

break_it()
print("survived")
"""
MADE = PROGRAM[: PROGRAM.index("return {made}")].count("\n") + 1

# What is made, and what is then done to it that the guard behind it finds; the allocator, where it is the same in all
# versions of Python.
OVERRUNS = {
    "a list's items": ("[None] * 10", "misbehave.write(items_of(made) + 80, 1)", "mem"),
    "an array's numbers": ("array.array('d', [1.0] * 10)", "misbehave.write(made.buffer_info()[0] + 80, 1)", "mem"),
    "a buffer of ctypes": ("(ctypes.c_int * 24)()", "misbehave.write(ctypes.addressof(made) + 96, 1)", "mem"),
    "a block of C": ("malloc(96)", "misbehave.write(made + 96, 1)", "mem"),
    "a large block of C": ("malloc(9600)", "misbehave.write(made + 9600, 1)", "mem"),
}
# Their memory holds the object itself.
OF_OBJECTS = {
    "bytes": ("bytes(15)", "misbehave.write(id(made) + bytes.__basicsize__ + 15, 1)"),
    "a string": ("'x' * (80 - ''.__sizeof__() % 16)", "misbehave.write(id(made) + made.__sizeof__(), 1)"),
    "an object with slots": ("Slotted()", "misbehave.write(id(made) + made.__sizeof__(), 1)"),
}


def watch(
    runner: "Runner", misbehave_path: Path, made: str, broken: str, *options: str, guard: str = "mem"
) -> "Watched":
    return runner.watch(
        runner.script(PROGRAM.format(made=made, broken=broken)),
        options=["--guard", guard, *options],
        environment={"PYTHONPATH": str(misbehave_path)},
    )


def allocated(fault: Any) -> int:
    line: int = fault["object"]["allocated"]["line"]
    return line


@pytest.mark.parametrize(("made", "broken", "allocator"), OVERRUNS.values(), ids=OVERRUNS)
def test_an_overrun_of_a_buffer_is_an_exception_and_names_the_line_that_made_it(
    runner: "Runner", misbehave_path: Path, made: str, broken: str, allocator: str
) -> None:
    done = watch(runner, misbehave_path, made, broken)
    assert (done.status, done.stdout) == (1, "")
    assert "\nmemprot.FaultError: write of 1 byte at 0x" in done.stderr
    fault = done.fault
    assert (fault["kind"], fault["distance"], fault["recovered"], allocated(fault)) == ("overflow", 0, True, MADE)
    assert fault["object"]["allocator"] == allocator
    assert fault["python"][0]["function"] == "break_it"


@pytest.mark.parametrize("policy", ["raise", "log"])
@pytest.mark.parametrize(("made", "broken"), OF_OBJECTS.values(), ids=OF_OBJECTS)
def test_an_overrun_of_an_object_is_reported_and_the_program_dies(
    runner: "Runner", misbehave_path: Path, made: str, broken: str, policy: str
) -> None:
    done = watch(runner, misbehave_path, made, broken, "--on-fault", policy, guard="raw,mem,obj")
    assert (done.status, done.stdout) == (-signal.SIGSEGV, "")
    assert "The program dies of SIGSEGV: object memory is not recovered." in done.stderr
    fault = done.fault
    assert (fault["kind"], fault["recovered"], allocated(fault)) == ("overflow", False, MADE)
    assert fault["object"]["allocator"] == "obj"


def test_the_second_byte_past_a_bytearray_is_found(runner: "Runner", misbehave_path: Path) -> None:
    """Python keeps a byte behind the data, so that the first is its own."""
    for length, past, kinds in ((5007, 0, []), (5007, 1, ["overflow"]), (5000, 1, ["slack"])):
        broken = f"misbehave.write(buffer_of(made) + {length + past}, 1)\n    del made"
        done = watch(runner, misbehave_path, f"bytearray({length})", broken, "--on-fault", "log", guard="raw,mem")
        assert done.status == 0
        assert [fault["kind"] for fault in done.document["faults"]] == kinds
        assert all(allocated(fault) == MADE for fault in done.document["faults"])


def test_a_write_into_the_slack_of_an_object_ends_the_program_when_it_is_freed(
    runner: "Runner", misbehave_path: Path
) -> None:
    broken = "misbehave.write(id(made) + made.__sizeof__() + 1, 1)\n    del made"
    done = watch(runner, misbehave_path, "bytes(12)", broken, "--on-fault", "log", guard="obj")
    assert (done.status, done.stdout) == (-signal.SIGABRT, "")
    assert (done.fault["kind"], allocated(done.fault)) == ("slack", MADE)


def test_what_is_freed_twice_is_told_and_freed_once(runner: "Runner", misbehave_path: Path) -> None:
    done = watch(runner, misbehave_path, "malloc(100)", "free(made); free(made)", "--on-fault", "log")
    assert (done.status, done.stdout) == (0, "survived\n")
    fault = done.fault
    assert (fault["kind"], fault["signal"], allocated(fault)) == ("double-free", None, MADE)
    raised = watch(runner, misbehave_path, "malloc(100)", "free(made); free(made)")
    assert raised.status == 1
    assert "was freed a second time" in raised.stderr


def test_what_is_freed_but_no_block_is_told(runner: "Runner", misbehave_path: Path) -> None:
    done = watch(runner, misbehave_path, "malloc(100)", "free(made + 16)", "--on-fault", "log")
    assert (done.status, done.stdout) == (0, "survived\n")
    assert done.fault["kind"] == "wild-free"


def test_a_freed_block_that_is_resized_is_told_and_there_is_no_new_one(runner: "Runner", misbehave_path: Path) -> None:
    broken = "free(made); print(realloc(made, 200))"
    done = watch(runner, misbehave_path, "malloc(100)", broken, "--on-fault", "log")
    assert (done.status, done.stdout) == (0, "None\nsurvived\n")
    assert done.fault["kind"] == "double-free"


@pytest.mark.parametrize("access", ["write(address, 1)", "read(address)"])
def test_items_that_are_used_after_the_list_let_them_go_are_told_with_both_lines(
    runner: "Runner", misbehave_path: Path, access: str
) -> None:
    broken = f"address = items_of(made)\n    made.clear()\n    misbehave.{access}"
    done = watch(runner, misbehave_path, "[None] * 10", broken, "--quarantine", "1MiB")
    assert (done.status, done.stdout) == (1, "")
    fault = done.fault
    assert (fault["kind"], allocated(fault)) == ("use-after-free", MADE)
    assert fault["object"]["freed"]["function"] == "break_it"


def test_without_a_quarantine_freed_memory_is_somebody_elses(runner: "Runner", misbehave_path: Path) -> None:
    broken = "address = items_of(made)\n    made.clear()\n    misbehave.read(address)"
    done = watch(runner, misbehave_path, "[None] * 10", broken)
    assert (done.status, done.stdout, done.document["faults"]) == (0, "survived\n", [])


def test_a_write_into_the_slack_is_found_when_the_block_is_freed(runner: "Runner", misbehave_path: Path) -> None:
    broken = "misbehave.write(made + 101, 1)\n    free(made)"
    done = watch(runner, misbehave_path, "malloc(100)", broken, "--on-fault", "log")
    assert (done.status, done.stdout) == (0, "survived\n")
    assert (done.fault["kind"], allocated(done.fault)) == ("slack", MADE)


def test_on_the_left_an_underrun_is_found(runner: "Runner", misbehave_path: Path) -> None:
    done = watch(runner, misbehave_path, "[None] * 10", "misbehave.write(items_of(made) - 1, 1)", "--side", "left")
    assert (done.status, done.fault["kind"], done.fault["distance"]) == (1, "underflow", -1)


def test_what_memprot_allocates_to_tell_a_fault_is_not_guarded(runner: "Runner", misbehave_path: Path) -> None:
    """Reading the symbols and the source of a fault makes objects by the hundred thousand."""
    calm = watch(runner, misbehave_path, "malloc(96)", "pass", "--on-fault", "log", guard="raw,mem,obj")
    told = watch(
        runner, misbehave_path, "malloc(96)", "misbehave.write(made + 96, 1)", "--on-fault", "log", guard="raw,mem,obj"
    )
    assert told.fault["kind"] == "overflow"
    for target, counts in told.document["guarded"].items():
        assert counts.get("blocks", 0) < calm.document["guarded"][target].get("blocks", 0) + 10_000
