"""Many tasks, and loops of several threads: every fault is found once, by the scope of its own task."""

import asyncio
import random
import threading
from types import ModuleType

import pytest
from loops import RUNS, Run, in_a_scope, pages_of

from memprot import PAGE_SIZE, FaultError, Region, catch_faults


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in an event loop of the main thread, or of another one."""
    return RUNS[request.param]


def test_many_tasks_with_policies_of_their_own(run: Run, misbehave: ModuleType) -> None:
    region = Region(30 * PAGE_SIZE)
    region.protect("r--")

    async def work(index: int) -> list[int]:
        scope = catch_faults(("raise", "log", "discard")[index % 3])
        try:
            with scope:
                for offset in range(5):
                    misbehave.write(region.address + index * PAGE_SIZE + offset, 1)
                    await asyncio.sleep(0)
        except FaultError:
            pass
        return [fault.offset or 0 for fault in scope.faults]

    async def main() -> list[list[int]]:
        return await asyncio.gather(*(work(index) for index in range(30)))

    for index, offsets in enumerate(run(main())):
        assert offsets
        assert {offset // PAGE_SIZE for offset in offsets} == {index}
    for index in range(30):
        start = index * PAGE_SIZE
        assert region[start : start + 6] == (b"\1\1\1\1\1\0" if index % 3 == 1 else bytes(6))
    region.close()


def test_loops_of_several_threads_at_once(misbehave: ModuleType) -> None:
    region = Region(32 * PAGE_SIZE, "r--")
    found: dict[int, list[int]] = {}

    def work(index: int) -> None:
        def act(page: int) -> None:
            misbehave.write(region.address + page * PAGE_SIZE, 1)

        async def pause() -> None:
            await asyncio.sleep(0)

        async def main() -> list[list[int]]:
            first = index * 8
            return await asyncio.gather(*(in_a_scope(act, [page], pause) for page in range(first, first + 8)))

        found[index] = [page for pages in asyncio.run(main()) for page in pages]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {index: list(range(index * 8, index * 8 + 8)) for index in range(4)}
    assert region.read() == bytes(region.size)
    region.close()


def test_every_fault_of_many_tasks_is_found_once_by_its_own_scope(run: Run, misbehave: ModuleType) -> None:
    tasks, writes = 20, 25
    region = Region(tasks * writes * PAGE_SIZE)
    view = memoryview(region)
    region.protect("r--")
    chance = random.Random(7)

    async def pause() -> None:
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)

    async def scoped(pages: list[int], found: list[int]) -> None:
        scope = catch_faults()
        try:
            with scope:
                for page in pages:
                    await pause()
                    try:
                        if chance.random() < 0.5:
                            view[page * PAGE_SIZE] = 1
                        else:
                            misbehave.write(region.address + page * PAGE_SIZE, 1)
                        await pause()
                    except FaultError:
                        await pause()
                    if chance.random() < 0.2:
                        scope.check()
        except FaultError:
            pass
        found += [page for fault in scope.faults for page in pages_of(fault)]

    async def work(index: int) -> list[int]:
        found: list[int] = []
        for page in range(index * writes, (index + 1) * writes):
            await scoped([page], found)
        return found

    async def main() -> list[list[int]]:
        return [*await asyncio.gather(*(work(index) for index in range(tasks)))]

    for index, found in enumerate(run(main())):
        assert found == list(range(index * writes, (index + 1) * writes))
    view.release()
    assert region.read() == bytes(region.size)
    region.close()
