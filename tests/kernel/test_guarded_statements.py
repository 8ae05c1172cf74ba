"""While arrays are guarded, statements on any array raise the faults they meet themselves."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import memprot.guard
from memprot import PAGE_SIZE, FaultError, catch_faults, protected

numpy = pytest.importorskip("numpy")

PROGRAM = """
def statement(v):
    next_one_ran = False
    try:
        {}
        next_one_ran = True
    except FaultError as fault:
        assert not next_one_ran
        return fault
"""
STATEMENTS = [
    "v[3] = 1",
    "v[2:5] = 1",
    "v[:] = 1",
    "v[v == 0] = 1",
    "v += 1",
    "v **= 2",
    "v.flat = 1",
    "v.flat[3] = 1",
    "v.real = 1",
    "v.T[3] = 1",
    "v[1:][3] = 1",
]
READS = ["v[3]", "v + 1", "1 + v", "-v", "v == 1", "3 in v", "numpy.ones(len(v))[:] = v"]


def raised(statement: str, array: Any) -> FaultError | None:
    namespace: dict[str, Any] = {"FaultError": FaultError, "numpy": numpy}
    exec(PROGRAM.format(statement), namespace)
    found: FaultError | None = namespace["statement"](array)
    return found


@pytest.fixture
def guarded() -> Iterator[None]:
    memprot.guard.enable("numpy")
    yield
    memprot.guard.disable("numpy")


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_blocked_write_is_raised_by_its_own_statement(guarded: None, statement: str) -> None:
    array = numpy.zeros(PAGE_SIZE)
    with protected(array, "r--"), catch_faults() as scope:
        fault = raised(statement, array)
        assert fault is not None
        assert fault.access == "write"
        assert scope.faults == (fault,)
    assert not array.any()


@pytest.mark.parametrize("statement", READS)
def test_a_blocked_read_is_raised_by_its_own_statement(guarded: None, statement: str) -> None:
    array = numpy.zeros(PAGE_SIZE)
    with protected(array, "---"), catch_faults():
        fault = raised(statement, array)
        assert fault is not None
        assert fault.access == "read"


def test_a_statement_that_meets_the_guard_raises_it(guarded: None) -> None:
    array = numpy.zeros(100)
    longer = numpy.lib.stride_tricks.as_strided(array, (101,))
    with catch_faults():
        for statement in ("v[100] = 1", "v += 1", "v[100]", "v.flat[100] = 1"):
            fault = raised(statement, longer)
            assert fault is not None
            assert (fault.cause, fault.offset) == ("guard", array.nbytes)


def test_the_operations_are_numpys_own_again_afterwards(guarded: None) -> None:
    memprot.guard.disable("numpy")
    array = numpy.zeros(PAGE_SIZE)
    made = memprot.Region(8 * PAGE_SIZE)
    array = numpy.asarray(made.array("f8"))
    made.protect("r--")
    with pytest.raises(FaultError), catch_faults():
        assert raised("v[3] = 1", array) is None
    memprot.guard.enable("numpy")
    with catch_faults():
        assert raised("v[3] = 1", array) is not None


def test_what_was_derived_meanwhile_works_afterwards(guarded: None) -> None:
    class Derived(numpy.ndarray):  # type: ignore[misc, name-defined]
        def __add__(self, other: object) -> str:
            return "derived"

    memprot.guard.disable("numpy")
    array = numpy.arange(5.0).view(Derived)
    array[1] = 7
    array *= 2
    assert array + 1 == "derived"
    assert array.tolist() == [0, 14, 4, 6, 8]
    assert (numpy.ones(5) + array).tolist() == [1, 15, 5, 7, 9]


def test_switching_disturbs_no_thread() -> None:
    stop = threading.Event()
    wrong: list[object] = []

    def compute() -> None:
        while not stop.is_set():
            array = numpy.arange(50.0)
            array += 1
            array[3] = array[2:5].sum()
            array.flat[7] = -array[6]
            if array.tolist() != [1, 2, 3, 12, 5, 6, 7, -7, *range(9, 51)] or 12 not in array:
                wrong.append(array)

    threads = [threading.Thread(target=compute) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        memprot.guard.enable("numpy")
        memprot.guard.disable("numpy")
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_program_under_memprot_run_has_its_statements_raise() -> None:
    program = """
import numpy
longer = numpy.lib.stride_tricks.as_strided(numpy.zeros(100), (101,))
def store():
    try:
        longer[100] = 1
    except Exception as error:
        return type(error).__name__
print(store())
"""
    command = [sys.executable, "-m", "memprot", "run", "--quiet", "-c", program]
    assert subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=False).stdout == "FaultError\n"
