"""Statements on the array of a Region raise the faults they meet themselves, be they the last in their try block."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults
from memprot.faults.policy import PolicyName

if TYPE_CHECKING:
    import subprocess

numpy = pytest.importorskip("numpy")

Statement = Callable[..., FaultError | None]
RunChild = Callable[..., "subprocess.CompletedProcess[str]"]
LENGTH = 2 * PAGE_SIZE // 8

PROGRAM = """
def statement(v, w=None, mask=None, numpy=None):
    i, n, next_one_ran = 3, 1.5, False
    try:
        {}
        next_one_ran = True
    except FaultError as fault:
        assert not next_one_ran
        return fault
"""

WRITES = {
    "element": "v[i] = n",
    "element from behind": "v[-1] = n",
    "slice": "v[2:5] = n",
    "slice with a step": "v[::3] = n",
    "everything": "v[:] = n",
    "ellipsis": "v[...] = n",
    "from an array": "v[:] = w",
    "mask": "v[mask] = n",
    "places": "v[[1, 5, 1]] = n",
    "tuple": "v.reshape(2, -1)[1, 3] = n",
    "transposed": "v.T[i] = n",
    "a view's element": "v[1:][i] = n",
    "flat": "v.flat = n",
    "flat element": "v.flat[i] = n",
    "flat slice": "v.flat[2:5] = n",
    "real": "v.real = n",
    "imag": "v.view('c16').imag = n",
    "field": "v.view([('a', 'f4'), ('b', 'i4')])['b'] = i",
    "element of a field": "v.view([('a', 'f4'), ('b', 'i4')])['b'][i] = i",
    "fields": "v.view([('a', 'f4'), ('b', 'i4')])[['a', 'b']] = (n, i)",
    "record": "v.view([('a', 'f4'), ('b', 'i4')])[i] = (n, i)",
    "unpacked": "v[i], rest = n, n",
    "loop variable": "for v[i] in (n,): break",
    "add": "v += n",
    "subtract": "v -= n",
    "multiply": "v *= n",
    "divide": "v /= n",
    "floor divide": "v //= n",
    "remainder": "v %= n",
    "power": "v **= 3",
    "square": "v **= 2",
    "matrix multiply": "v = v[:4].reshape(2, 2); v @= w[:4].reshape(2, 2)",
    "shift left": "v = v.view('i8'); v <<= 2",
    "shift right": "v = v.view('i8'); v >>= 2",
    "and": "v = v.view('i8'); v &= 1",
    "or": "v = v.view('i8'); v |= 1",
    "xor": "v = v.view('i8'); v ^= 1",
    "part": "v[2:5] += n",
    "everything, from itself": "v += v",
    "the right operand": "v *= w",
}
CALLS = {
    "sort": "v.sort()",
    "fill": "v.fill(n)",
    "out": "numpy.add(w, n, out=v)",
    "copyto": "numpy.copyto(v, w)",
    "put": "v.put([1, 2], n)",
    "itemset": "numpy.add.at(v, [1, 2], n)",
    "partition": "v.partition(i)",
    "byteswap": "v.byteswap(inplace=True)",
    "setfield": "v.setfield(i, 'i4')",
}
READS = {
    "element": "v[i]",
    "places": "v[[1, 5]]",
    "mask": "v[mask]",
    "sum of a slice": "v[1:] + 1",
    "sum": "v + w",
    "the other way round": "w + v",
    "of a number": "2.0 * v",
    "of NumPy's number": "numpy.float64(2) * v",
    "minus": "-v",
    "plus": "+v",
    "difference": "v - n",
    "quotient": "v / 2",
    "floor quotient": "v // 2",
    "remainder": "v % 2",
    "power": "v ** 2",
    "inverse": "~v.view('i8')",
    "shifted": "v.view('i8') << 1",
    "shifted back": "v.view('i8') >> 1",
    "and": "v.view('i8') & 1",
    "or": "v.view('i8') | 1",
    "xor": "v.view('i8') ^ 1",
    "product of matrices": "v @ w",
    "equal": "v == w",
    "unequal": "v != n",
    "less": "v < n",
    "reflected": "n > v",
    "contained": "n in v",
    "a condition": "w = 1 if v[:1] else 2",
    "flat element": "v.flat[i]",
    "flat compared": "v.flat == n",
    "iteration": "for element in v: break",
    "flat iteration": "for element in v.flat: break",
    "unpacked": "a, b = v[:2]",
    "field": "v.view([('a', 'f4'), ('b', 'i4')])['b'] + 1",
    "no dimension": "v.reshape(-1, 1)[0, 0, ...] + 1",
    "as an operand in place": "z = v[:4].reshape(2, 2).T; w[:4].reshape(2, 2) @ z",
}


def compiled(statement: str) -> Statement:
    namespace: dict[str, Any] = {"FaultError": FaultError}
    exec(PROGRAM.format(statement), namespace)
    found: Statement = namespace["statement"]
    return found


def operands() -> dict[str, Any]:
    mask = numpy.zeros(LENGTH, bool)
    mask[5] = True
    return {"w": numpy.ones(LENGTH), "mask": mask, "numpy": numpy}


@pytest.fixture
def region() -> Iterator[Region]:
    with Region(2 * PAGE_SIZE) as made:
        made[:] = bytes(range(1, 65)) * (2 * PAGE_SIZE // 64)
        yield made


def raises(statement: str, region: Region, prot: str) -> FaultError:
    """The fault that the statement itself raised; nothing is left pending, and the bytes are what they were."""
    v, before, run = region.array("f8"), region[:], compiled(statement)
    with region.protected(prot), catch_faults() as scope:
        fault = run(v, **operands())
        assert fault is not None
        scope.check()
        assert scope.faults == (fault,)
    assert region[:] == before
    assert fault.region is region
    return fault


@pytest.mark.parametrize("name", WRITES)
def test_a_blocked_write_is_raised_by_its_own_statement(region: Region, name: str) -> None:
    assert raises(WRITES[name], region, "r--").access == "write"


@pytest.mark.parametrize("name", CALLS)
def test_a_blocked_call_is_raised_by_its_own_statement(region: Region, name: str) -> None:
    assert raises(CALLS[name], region, "r--").access == "write"


@pytest.mark.parametrize("name", READS)
def test_a_blocked_read_is_raised_by_its_own_statement(region: Region, name: str) -> None:
    assert raises(READS[name], region, "---").access == "read"


@pytest.mark.parametrize("name", [*WRITES, *CALLS])
def test_a_statement_that_nothing_forbids_does_what_it_does_to_a_plain_array(region: Region, name: str) -> None:
    plain = region.array("f8").copy()
    assert type(plain) is numpy.ndarray
    run = compiled({**WRITES, **CALLS}[name])
    with catch_faults():
        assert run(region.array("f8"), **operands()) is None
        assert run(plain, **operands()) is None
    assert region[:] == plain.tobytes()


@pytest.mark.parametrize("length", [1, LENGTH, (1 << 20) // 8])
def test_statements_in_other_threads_raise_there(length: int) -> None:
    """The long one is done without the interpreter held."""
    region = Region(length * 8)
    v, found = region.array("f8"), []
    region.protect("r--")
    run = compiled("v[:] = n")

    def work() -> None:
        found.append(run(v))

    with catch_faults():
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
            thread.join()
        assert run(v) is not None
    assert [fault is not None and fault.offset for fault in found] == [0] * 4
    assert not any(region[:])


def test_a_process_policy_of_raise_does_as_a_scope_does(run_child: RunChild) -> None:
    done = run_child("""
from memprot import FaultError, Region
from memprot.faults import engine
region = Region(8192)
v = region.array("f8")
region.protect("r--")
engine.set_policy("raise")
def first():
    try:
        v[3] = 1
    except FaultError as fault:
        return fault.offset
def second():
    global v
    try:
        v += 1
    except FaultError as fault:
        return fault.offset
print(first(), second(), flush=True)
""")
    assert (done.stdout, done.stderr, done.returncode) == ("24 0\n", "", 0)


def test_a_fault_that_is_only_logged_is_not_raised(run_child: RunChild) -> None:
    done = run_child("""
from memprot import Region
from memprot.faults import engine
seen = []
engine.add_listener(seen.append)
region = Region(8192)
v = region.array("f8")
region.protect("r--")
engine.set_policy("log")
v[3] = 1
v += 1
engine.drain()
print(len(seen) > 0, flush=True)
""")
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_another_error_of_the_statement_is_the_faults_context(region: Region) -> None:
    v = region.array("f8")
    with region.protected("---"), catch_faults(), pytest.raises(FaultError) as caught, numpy.errstate(divide="raise"):
        1.0 / v
    assert isinstance(caught.value.__context__, FloatingPointError)


def test_an_error_without_a_fault_is_what_it_always_was(region: Region) -> None:
    v = region.array("f8")
    with region.protected("r--"), catch_faults():
        with pytest.raises(IndexError):
            v[LENGTH] = 1
        with pytest.raises(ValueError, match="could not broadcast"):
            v[:3] = [1, 2]
        with pytest.raises(AttributeError):
            v.colour = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("in_main_thread", [True, False])
def test_statements_raise_inside_the_tasks_of_an_event_loop(region: Region, in_main_thread: bool) -> None:
    """A task's faults are its own: what one has met is not raised by the statements of another."""
    v, run, other = region.array("f8"), compiled("v[i] = n"), Region(PAGE_SIZE).array("f8")
    region.protect("r--")
    found: list[FaultError | None] = []

    async def blocked() -> None:
        with catch_faults():
            for _ in range(3):
                found.append(run(v))
                await asyncio.sleep(0)

    async def allowed() -> None:
        with catch_faults() as scope:
            for _ in range(10):
                assert run(other) is None
                await asyncio.sleep(0)
            assert scope.faults == ()

    async def both() -> None:
        await asyncio.gather(blocked(), allowed(), blocked())

    if in_main_thread:
        asyncio.run(both())
    else:
        thread = threading.Thread(target=lambda: asyncio.run(both()))
        thread.start()
        thread.join()
    assert [fault is not None and fault.offset for fault in found] == [24] * 6


def test_a_callable_decides_before_the_next_statement(region: Region) -> None:
    v, seen = region.array("f8"), []

    def keep(fault: FaultError) -> PolicyName:
        seen.append(fault.offset)
        return "log"

    region.protect("r--")
    with catch_faults(policy=keep):
        v[3] = 5
        assert seen == [24]
        v += 1
        assert seen == [24, 0]
    assert v[3] == 6


def test_what_a_callable_raises_the_statement_raises(region: Region) -> None:
    v = region.array("f8")

    def refuse(fault: FaultError) -> PolicyName:
        raise KeyError(fault.offset)

    region.protect("r--")
    with catch_faults(policy=refuse), pytest.raises(KeyError, match="24"):
        v[3] = 5


def test_what_a_policy_discards_is_not_raised(region: Region) -> None:
    v, before = region.array("f8"), region[:]
    region.protect("r--")
    with catch_faults(policy="discard"):
        v[3] = 5
        v += 1
    assert region[:] == before
