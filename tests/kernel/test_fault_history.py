"""The last faults of a process, whatever became of them."""

import ctypes
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults, guarded
from memprot.faults import engine, get_history_limit, history, set_history_limit, set_policy


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    history(clear=True)
    limit = get_history_limit()
    yield
    set_history_limit(limit)
    history(clear=True)


@pytest.fixture
def raising() -> Iterator[None]:
    set_policy("raise")
    yield
    set_policy("die")


def swallow(act: Callable[[], object]) -> None:
    try:
        with catch_faults():
            act()
    except FaultError:
        pass


def test_faults_that_were_swallowed_are_in_it_oldest_first(misbehave: ModuleType, blocked: Region) -> None:
    before = time.time_ns()
    for offset in (3, PAGE_SIZE, 7):
        swallow(lambda offset=offset: misbehave.write(blocked.address + offset, offset % 256))  # type: ignore[misc]
    found = history()
    assert [record.address - blocked.address for record in found] == [3, PAGE_SIZE, 7]
    times = [record.time or 0 for record in found]
    assert before < times[0] <= times[1] <= times[2] < time.time_ns()
    assert all(record.recovered and record.access == "write" for record in found)
    python = found[-1].python
    assert python is not None
    assert python[0].line == test_faults_that_were_swallowed_are_in_it_oldest_first.__code__.co_firstlineno + 3
    assert found[-1].native[0].function == "touch_write"


def test_the_record_is_the_one_of_the_exception(misbehave: ModuleType, blocked: Region) -> None:
    with pytest.raises(FaultError) as caught, catch_faults():
        misbehave.write(blocked.address, 1)
    assert history()[-1] is caught.value.record
    assert history()[-1] is history()[-1]


def test_faults_of_every_policy_are_in_it(misbehave: ModuleType, shared: bool, raising: None) -> None:
    with Region(PAGE_SIZE, "r--", shared=shared) as region:
        with pytest.raises(FaultError):
            misbehave.write(region.address, 1)
        policies: tuple[Any, ...] = ("log", "discard", lambda fault: None, lambda fault: "log")
        for offset, policy in enumerate(policies, 1):
            set_policy(policy)
            misbehave.write(region.address + offset, 1)
            engine.drain()
        assert [record.address - region.address for record in history()] == [0, 1, 2, 3, 4]


def test_the_protection_is_the_one_that_forbade_the_access(misbehave: ModuleType, blocked: Region) -> None:
    prot = str(blocked.prot)
    swallow(lambda: misbehave.write(blocked.address, 1))
    with blocked.protected("rw-"):
        mapping = history()[-1].mapping
    assert mapping is not None
    assert str(mapping.prot) == prot


def test_a_guarded_block_is_told_as_long_as_it_lives(misbehave: ModuleType) -> None:
    block = guarded(100)
    swallow(lambda: misbehave.write(block.address + 100, 1))
    told = history()[-1].block
    assert told is not None
    assert (told.address, told.nbytes) == (block.address, 100)


def test_it_can_be_cleared(misbehave: ModuleType, blocked: Region) -> None:
    swallow(lambda: misbehave.write(blocked.address, 1))
    assert len(history(clear=True)) == 1
    assert history() == []
    swallow(lambda: misbehave.write(blocked.address, 1))
    assert len(history()) == 1


def test_it_keeps_the_newest_up_to_its_limit(misbehave: ModuleType, blocked: Region) -> None:
    set_history_limit(3)
    assert get_history_limit() == 3
    for offset in range(5):
        swallow(lambda offset=offset: misbehave.write(blocked.address + offset, 1))  # type: ignore[misc]
    assert [record.address - blocked.address for record in history()] == [2, 3, 4]
    set_history_limit(2)
    assert [record.address - blocked.address for record in history()] == [3, 4]
    set_history_limit(0)
    swallow(lambda: misbehave.write(blocked.address, 1))
    assert history() == []
    with pytest.raises(ValueError, match="-1"):
        set_history_limit(-1)


def test_the_accessors_of_a_region_leave_nothing_in_it(blocked: Region) -> None:
    with pytest.raises(FaultError):
        blocked[0] = 1
    assert history() == []


def test_a_forked_child_has_a_copy_of_its_own(misbehave: ModuleType, blocked: Region) -> None:
    swallow(lambda: misbehave.write(blocked.address, 1))
    child = os.fork()
    if child == 0:
        inherited = len(history())
        swallow(lambda: ctypes.memset(blocked.address, 1, 1))
        os._exit(0 if (inherited, len(history(clear=True)), len(history())) == (1, 2, 0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(history()) == 1


def test_threads_fill_it_while_others_read_and_clear_it(misbehave: ModuleType) -> None:
    faults, threads = 300, 4
    set_history_limit(2 * faults * threads)
    seen: list[int] = []

    def work() -> None:
        with Region(PAGE_SIZE, "r--") as region:
            for _ in range(faults):
                swallow(lambda: misbehave.write(region.address, 1))

    workers = [threading.Thread(target=work, name=f"worker {number}") for number in range(threads)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        history()
        seen += [record.thread.id for record in history(clear=True)]
    seen += [record.thread.id for record in history(clear=True)]
    assert Counter(seen) == {worker.native_id: faults for worker in workers}


def test_a_thread_that_has_ended_keeps_its_name(misbehave: ModuleType, blocked: Region) -> None:
    worker = threading.Thread(target=lambda: swallow(lambda: misbehave.write(blocked.address, 1)), name="the painter")
    worker.start()
    worker.join()
    assert history()[-1].thread.name == "the painter"
