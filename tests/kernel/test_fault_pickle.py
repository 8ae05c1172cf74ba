"""A FaultError travels: pickled, copied, to another process and back."""

import concurrent.futures
import copy
import ctypes
import multiprocessing
import pickle
import time
import traceback
from collections.abc import Callable
from types import ModuleType

import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults, guarded
from memprot.faults import history

READ = (
    "address", "access", "cause", "key", "offset", "record", "mapping", "native", "thread", "time", "instruction",
    "value", "traceback", "args",
)  # fmt: skip


def fault_of(act: Callable[[], object]) -> FaultError:
    with pytest.raises(FaultError) as caught, catch_faults():
        act()
    return caught.value


def values_of(fault: FaultError) -> dict[str, object]:
    found = {name: getattr(fault, name) for name in READ}
    found["lines"] = [(frame.file, frame.line) for frame in fault.native]
    found["words"] = str(fault)
    return found


def check_same(one: FaultError, other: FaultError) -> None:
    assert type(one) is type(other) is FaultError
    assert values_of(one) == values_of(other)
    assert len(one.others) == len(other.others)
    for mine, theirs in zip(one.others, other.others, strict=True):
        check_same(mine, theirs)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_keeps_everything_but_the_region(misbehave: ModuleType, blocked: Region, protocol: int) -> None:
    fault = fault_of(lambda: misbehave.write64(blocked.address + 5, 7))
    fault.add_note("a note")
    again = pickle.loads(pickle.dumps(fault, protocol))
    check_same(again, fault)
    assert (again.region, again.offset) == (None, 5)
    assert again.__notes__ == ["a note"]
    assert pickle.loads(pickle.dumps(again, protocol)).record == fault.record


def test_a_block_goes_along(misbehave: ModuleType) -> None:
    block = guarded(100)
    fault = fault_of(lambda: misbehave.write(block.address + 100, 0))
    again = pickle.loads(pickle.dumps(fault))
    check_same(again, fault)
    assert again.record.block.nbytes == 100


def test_others_go_along(misbehave: ModuleType) -> None:
    with Region(2 * PAGE_SIZE, "r--") as region:
        fault = fault_of(lambda: misbehave.write(region.address, 1))
        fault._join(fault_of(lambda: misbehave.write(region.address + PAGE_SIZE, 2)))
        again = pickle.loads(pickle.dumps(fault))
        check_same(again, fault)
        assert [other.address for other in again.others] == [region.address + PAGE_SIZE]


def test_what_memprots_own_accessors_raise_travels_too(blocked: Region) -> None:
    with pytest.raises(FaultError) as caught:
        blocked[10] = 1
    again = pickle.loads(pickle.dumps(caught.value))
    check_same(again, caught.value)
    assert again.record is None


def test_a_copy_has_the_same_region(misbehave: ModuleType, blocked: Region) -> None:
    fault = fault_of(lambda: misbehave.write(blocked.address + 5, 7))
    fault._join(fault_of(lambda: misbehave.write(blocked.address + 6, 7)))
    for one in (copy.copy(fault), copy.deepcopy(fault)):
        check_same(one, fault)
        assert one.region is blocked
        assert one.others[0].region is blocked
    assert copy.copy(fault).others[0] is fault.others[0]
    assert copy.deepcopy(fault).others[0] is not fault.others[0]


def test_records_travel_by_themselves(misbehave: ModuleType, blocked: Region) -> None:
    fault_of(lambda: misbehave.write(blocked.address, 7))
    record = history()[-1]
    again = pickle.loads(pickle.dumps(record))
    assert again == record
    assert [frame.line for frame in again.native] == [frame.line for frame in record.native]


def fail_there() -> None:
    region = Region(PAGE_SIZE, "r--")
    with catch_faults():
        ctypes.memset(region.address + 40, 7, 8)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_raises_it_here(method: str) -> None:
    before = time.time_ns()
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        with pytest.raises(FaultError) as caught:
            pool.submit(fail_there).result()
        worker = next(iter(pool._processes))
    fault = caught.value
    assert (fault.access, fault.cause, fault.offset, fault.region) == ("write", "protection", 40, None)
    assert (fault.thread and fault.thread.id, fault.thread and fault.thread.name) == (worker, "MainThread")
    assert "memset" in str(fault.native[0].function)
    assert fault.mapping.prot == 1
    assert before < (fault.time or 0) < time.time_ns()
    assert "ctypes.memset(region.address + 40, 7, 8)" in "".join((fault.traceback or traceback.StackSummary()).format())
    assert str(fault).endswith(f"at {fault.address:#x}, byte 40 of a Region whose protection forbids it")
