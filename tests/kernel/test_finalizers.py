"""A fault that is raised in a finalizer, or in a callback of the collector, is not lost there."""

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults

Ending = Callable[[list[object]], Callable[[], object]]
references: list[object] = []


class Finalized:
    """Its end runs Python."""

    def __del__(self) -> None:
        len([1])


def by_a_finalizer(kept: list[object]) -> Callable[[], object]:
    kept.append(Finalized())
    return kept.clear


def by_a_weak_reference(kept: list[object]) -> Callable[[], object]:
    kept.append({1})
    references.append(weakref.ref(kept[0], lambda _: len([1])))
    return kept.clear


def by_the_collector(kept: list[object]) -> Callable[[], object]:
    gc.callbacks.append(lambda phase, info: None)
    return gc.collect


ENDINGS = pytest.mark.parametrize("ending", [by_a_finalizer, by_a_weak_reference, by_the_collector])


@ENDINGS
def test_the_scopes_end_raises_it_again(misbehave: ModuleType, blocked: Region, ending: Ending) -> None:
    for _ in range(5):
        act = ending([])
        scope = catch_faults()
        with pytest.raises(FaultError) as caught, scope:
            misbehave.write_then_call(blocked.address + 7, 1, act)  # the first Python afterwards is the ending
        assert caught.value.offset == 7
        assert scope.faults == (caught.value,)


@ENDINGS
def test_the_next_fault_takes_it_along(misbehave: ModuleType, blocked: Region, ending: Ending) -> None:
    act = ending([])
    with catch_faults() as scope:
        misbehave.write_then_call(blocked.address, 1, act)
        with pytest.raises(FaultError) as caught:
            misbehave.write(blocked.address + PAGE_SIZE, 1)
        assert caught.value.offset == 0
        assert [other.offset for other in caught.value.others] == [PAGE_SIZE]
    assert len(scope.faults) == 2


@ENDINGS
def test_check_raises_it(misbehave: ModuleType, blocked: Region, ending: Ending) -> None:
    act = ending([])
    with catch_faults() as scope:
        misbehave.write_then_call(blocked.address, 1, act)
        with pytest.raises(FaultError):
            scope.check()
        scope.check()


def test_it_stays_in_its_thread(misbehave: ModuleType, blocked: Region) -> None:
    raised: list[int | None] = []

    def work() -> None:
        try:
            with catch_faults():
                misbehave.write_then_call(blocked.address + 3, 1, by_a_finalizer([]))
        except FaultError as fault:
            raised.append(fault.offset)

    with catch_faults() as scope:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert scope.faults == ()
    assert raised == [3]


def test_what_else_finalizers_raise_goes_where_it_always_went(
    misbehave: ModuleType, blocked: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bad:
        def __del__(self) -> None:
            raise KeyError("bad")

    class Accessor:
        def __del__(self) -> None:
            blocked[0] = 1

    seen: list[type[BaseException]] = []

    def hook(unraisable: Any) -> None:
        seen.append(unraisable.exc_type)

    monkeypatch.setattr(sys, "unraisablehook", hook)
    for _ in range(2):
        with catch_faults():
            with pytest.raises(FaultError):
                misbehave.write(blocked.address, 1)
            assert sys.unraisablehook is not hook
            with catch_faults():
                Bad()
            Accessor()
        assert sys.unraisablehook is hook
        Bad()
    assert seen == [KeyError, FaultError, KeyError] * 2


def test_a_scope_that_raises_nothing_leaves_the_hook_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def hook(unraisable: Any) -> None:
        raise AssertionError("nothing was unraisable")

    monkeypatch.setattr(sys, "unraisablehook", hook)
    with catch_faults():
        assert sys.unraisablehook is hook
    assert sys.unraisablehook is hook


def test_a_hook_that_was_set_inside_a_scope_and_calls_its_predecessor_is_called_once(
    misbehave: ModuleType, blocked: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bad:
        def __del__(self) -> None:
            raise KeyError("bad")

    seen: list[str] = []
    monkeypatch.setattr(sys, "__unraisablehook__", lambda unraisable: seen.append("Python's"))
    with catch_faults():
        with pytest.raises(FaultError):
            misbehave.write(blocked.address, 1)
        before = sys.unraisablehook

        def hook(unraisable: Any) -> None:
            seen.append("the new one")
            before(unraisable)

        monkeypatch.setattr(sys, "unraisablehook", hook)
    with catch_faults():
        with pytest.raises(FaultError):
            misbehave.write(blocked.address, 1)
        Bad()
    assert seen == ["the new one", "Python's"]
