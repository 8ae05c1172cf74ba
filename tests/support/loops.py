"""Event loops in which tasks break memory."""

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from memprot import PAGE_SIZE, FaultError, catch_faults

Act = Callable[[int], None]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def _in_this_thread(coroutine: Coroutine[Any, Any, Any]) -> Any:
    heard: list[dict[str, Any]] = []

    async def watched() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context))
        return await coroutine

    result = asyncio.run(watched())
    assert heard == []
    return result


def _in_a_worker(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(_in_this_thread, coroutine).result()


# How a coroutine is run in an event loop, whose own handler of exceptions may hear of none.
RUNS: Final[dict[str, Run]] = {"main thread": _in_this_thread, "worker": _in_a_worker}


def pages_of(fault: FaultError) -> list[int]:
    return [(other.offset or 0) // PAGE_SIZE for other in (fault, *fault.others)]


async def in_a_scope(act: Act, pages: list[int], pause: Callable[[], Awaitable[object]]) -> list[int]:
    """Writes to pages, pausing in between; the pages of the faults that its scope has raised."""
    scope = catch_faults()
    try:
        with scope:
            for page in pages:
                act(page)
                await pause()
    except FaultError:
        pass
    return sorted(page for fault in scope.faults for page in pages_of(fault))
