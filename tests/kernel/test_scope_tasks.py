"""A scope belongs to its task: each gets its own faults, however tasks take turns, and the loop gets none."""

import asyncio
import contextvars
import sys
import threading
import types
from collections.abc import AsyncIterator, Generator, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from loops import RUNS, Act, Run, in_a_scope, pages_of

from memprot import PAGE_SIZE, FaultError, Region, catch_faults
from memprot.faults import set_policy
from memprot.faults.engine import add_listener, drain, remove_listener

if TYPE_CHECKING:
    from memprot.faults.record import FaultRecord

PAGES = 64


@pytest.fixture
def region() -> Iterator[Region]:
    """Read-only zeros, which they still are afterwards."""
    region = Region(PAGES * PAGE_SIZE, "r--")
    yield region
    assert region.read() == bytes(region.size)
    region.close()


def memoryview_of(region: Region) -> memoryview:
    """A view that may be written, as far as it knows."""
    region.protect("rw-")
    view = memoryview(region)
    region.protect("r--")
    return view


@pytest.fixture(params=["call", "statement"])
def act(request: pytest.FixtureRequest, region: Region, misbehave: ModuleType) -> Iterator[Act]:
    """Writes to a page, by a call or by a statement after which nothing is looked for until the next call."""
    view = memoryview_of(region)

    def call(page: int) -> None:
        misbehave.write(region.address + page * PAGE_SIZE, 1)

    def statement(page: int) -> None:
        view[page * PAGE_SIZE] = 1

    yield call if request.param == "call" else statement
    view.release()


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in an event loop of the main thread, or of another one."""
    return RUNS[request.param]


def test_two_tasks_that_take_turns_each_get_their_own(run: Run, act: Act) -> None:
    async def main() -> list[list[int]]:
        async def pause() -> None:
            await asyncio.sleep(0)

        return [*await asyncio.gather(in_a_scope(act, [1], pause), in_a_scope(act, [2], pause))]

    for _ in range(20):
        assert run(main()) == [[1], [2]]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_scopes_of_tasks_end_in_any_order(run: Run, act: Act, order: tuple[int, ...]) -> None:
    async def main() -> dict[int, list[int]]:
        gates = [asyncio.Event() for _ in order]
        found: dict[int, list[int]] = {}
        ended: list[int] = []

        async def work(index: int) -> None:
            scope = catch_faults()
            try:
                with scope:
                    await asyncio.sleep(0)
                    try:
                        act(index + 1)
                        await gates[index].wait()
                    except FaultError:
                        await gates[index].wait()
            except FaultError:
                pass
            found[index] = [page for fault in scope.faults for page in pages_of(fault)]
            ended.append(index)

        tasks = [asyncio.create_task(work(index)) for index in range(len(order))]
        for _ in range(5):
            await asyncio.sleep(0)
        for index in order:
            gates[index].set()
            await tasks[index]
        assert tuple(ended) == order
        return found

    assert run(main()) == {0: [1], 1: [2], 2: [3]}


def test_a_fault_right_before_a_pause_reaches_neither_the_loop_nor_another_task(run: Run, act: Act) -> None:
    async def main() -> tuple[list[int], list[str]]:
        log: list[str] = []

        async def bystander() -> None:
            for _ in range(20):
                len(log)
                await asyncio.sleep(0)
            log.append("undisturbed")

        async def pause() -> None:
            await asyncio.sleep(0)

        other = asyncio.create_task(bystander())
        pages = await in_a_scope(act, [7], pause)
        await other
        return pages, log

    for _ in range(20):
        assert run(main()) == ([7], ["undisturbed"])


@pytest.mark.parametrize("how", ["yield", "future"])
def test_a_fault_right_before_the_task_gives_way_does_not_stop_it(run: Run, region: Region, how: str) -> None:
    """Between the two no Python runs but the loop's own, which plans how the task goes on."""
    view = memoryview_of(region)

    @types.coroutine
    def give_way() -> Generator[Any, Any, None]:
        view[5 * PAGE_SIZE] = 1
        yield

    async def main() -> list[int]:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.001, future.set_result, None)
        scope = catch_faults()
        try:
            with scope:
                if how == "yield":
                    await give_way()
                else:
                    view[5 * PAGE_SIZE] = 1
                    await future
        except FaultError:
            pass
        return [page for fault in scope.faults for page in pages_of(fault)]

    assert run(main()) == [5]
    view.release()


def test_a_task_group_ends_with_the_fault_of_its_task(run: Run, act: Act) -> None:
    async def main() -> list[list[int]]:
        async def work(page: int) -> None:
            with catch_faults():
                act(page)
                await asyncio.sleep(0)

        found = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(work(3))
        except* FaultError as raised:
            found = [pages_of(fault) for fault in raised.exceptions if isinstance(fault, FaultError)]
        return found

    assert run(main()) == [[3]]


def test_what_threads_of_the_loop_do_is_raised_there(run: Run, misbehave: ModuleType, region: Region) -> None:
    async def main() -> list[int | None]:
        def work(page: int) -> None:
            misbehave.write(region.address + page * PAGE_SIZE, 1)
            len([])

        found = []
        with catch_faults() as scope:
            loop = asyncio.get_running_loop()
            for awaitable in (asyncio.to_thread(work, 4), loop.run_in_executor(None, work, 5)):
                try:
                    await awaitable
                except FaultError as fault:
                    found.append(fault.offset)
        assert scope.faults == ()
        return found

    assert run(main()) == [4 * PAGE_SIZE, 5 * PAGE_SIZE]


def test_a_context_run_inside_a_scope_belongs_to_it(act: Act) -> None:
    for copied_inside in (True, False):
        context = contextvars.copy_context()
        with pytest.raises(FaultError) as caught, catch_faults("raise") as scope:
            if copied_inside:
                context = contextvars.copy_context()
            context.run(act, 1)
        assert pages_of(caught.value) == [1]
        assert scope.faults == (caught.value,)


def test_a_context_run_inside_a_task_belongs_to_its_scope(run: Run, act: Act) -> None:
    async def main() -> list[int]:
        async def pause() -> None:
            await asyncio.sleep(0)

        context = contextvars.copy_context()
        return await in_a_scope(lambda page: context.run(act, page), [2], pause)

    assert run(main()) == [2]


def test_a_scope_in_an_async_generator_is_its_task(run: Run, act: Act) -> None:
    async def numbers() -> AsyncIterator[int]:
        scope = catch_faults()
        with scope:
            yield 1
            act(6)
            yield 2

    async def main() -> list[int]:
        found: list[int] = []
        iterator = numbers()
        try:
            async for _ in iterator:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
        except FaultError as fault:
            found = pages_of(fault)
        return found

    assert run(main()) == [6]


@pytest.mark.parametrize("in_worker", [False, True], ids=["main thread", "worker"])
def test_a_scope_around_the_loop_gets_what_its_tasks_do_not_take(act: Act, in_worker: bool) -> None:
    raised: list[object] = []

    async def work() -> None:
        act(9)
        await asyncio.sleep(0)

    async def main() -> list[BaseException | None]:
        return [*await asyncio.gather(work(), return_exceptions=True)]

    def around() -> None:
        try:
            with catch_faults():
                raised.extend(asyncio.run(main()))
        except FaultError as fault:
            raised.append(fault)

    if in_worker:
        thread = threading.Thread(target=around)
        thread.start()
        thread.join()
    else:
        around()
    assert [pages_of(error) for error in raised if isinstance(error, FaultError)] == [[9]]


def test_a_task_that_outlives_the_scope_it_was_made_in(run: Run, misbehave: ModuleType) -> None:
    region = Region(PAGE_SIZE, policy=None)
    region.protect("r--")

    async def main() -> None:
        gate = asyncio.Event()

        async def later() -> None:
            await gate.wait()
            with catch_faults("log"):
                misbehave.write(region.address, 1)

        with catch_faults():
            task = asyncio.create_task(later())
            await asyncio.sleep(0)
        gate.set()
        await task

    run(main())
    assert region[0] == 1
    region.close()


def test_a_fault_of_a_task_without_any_scope_does_not_reach_the_loop(run: Run, act: Act) -> None:
    """It is raised in the task where that is still running, else told."""
    told: list[FaultRecord] = []

    async def work() -> None:
        act(3)
        await asyncio.sleep(0)

    async def main() -> list[BaseException | None]:
        found = [*await asyncio.gather(work(), return_exceptions=True)]
        await asyncio.sleep(0.01)
        return found

    add_listener(told.append)
    set_policy("raise")
    try:
        raised = run(main())
        drain()
    finally:
        set_policy("die")
        remove_listener(told.append)
    assert len(told) == 1
    assert all(error is None or pages_of(error) == [3] for error in raised)


def test_without_a_scope_the_hook_for_the_unraisable_is_told(
    run: Run, region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = memoryview_of(region)
    told: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_value))

    async def work() -> None:
        view[5 * PAGE_SIZE] = 1  # and nothing more

    async def main() -> None:
        await asyncio.create_task(work())
        await asyncio.sleep(0.01)

    set_policy("raise")
    try:
        run(main())
        drain()
    finally:
        set_policy("die")
    assert [pages_of(error) for error in told if isinstance(error, FaultError)] == [[5]]
    view.release()


def test_callbacks_of_the_loop_do_not_kill_it(run: Run, act: Act) -> None:
    async def main() -> int:
        with catch_faults():
            loop = asyncio.get_running_loop()
            done = loop.create_future()

            def callback() -> None:
                with pytest.raises(FaultError), catch_faults():
                    act(8)
                done.set_result(1)

            loop.call_soon(callback)
            return int(await done)

    assert run(main()) == 1
