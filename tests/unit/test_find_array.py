"""Naming a block: the array over it is found among the variables, and none of the program's code runs."""

import sys
from types import FrameType
from typing import Any

import numpy as np
import pytest

from memprot.faults import array

OVER_ALL = np.zeros(16)
address_of = np.ndarray.__dict__["__array_interface__"].__get__


def address(of: "np.ndarray[Any, Any]") -> int:
    found: int = address_of(of)["data"][0]
    return found


def find_array(start: int, nbytes: int, frames: list[FrameType]) -> tuple[str, tuple[int, ...], str] | None:
    found = array.find_array(start, nbytes, frames)
    return None if found is None else (found.dtype, found.shape, found.name)


def here() -> FrameType:
    return sys._getframe(1)


def test_an_array_among_the_locals_is_found() -> None:
    out = np.zeros((10, 10), np.float32)
    assert find_array(address(out), out.nbytes, [here()]) == ("float32", (10, 10), "out")


def test_the_innermost_frame_is_asked_first_and_globals_last() -> None:
    def outer() -> Any:
        theirs = OVER_ALL
        return inner(), theirs

    def inner() -> Any:
        mine = OVER_ALL
        return find_array(address(mine), mine.nbytes, [sys._getframe(), sys._getframe(1)])

    assert outer()[0][2] == "mine"
    assert find_array(address(OVER_ALL), OVER_ALL.nbytes, [here()]) == ("float64", (16,), "OVER_ALL")


def test_an_array_as_large_as_the_block_is_preferred_to_a_part_of_it() -> None:
    whole = np.zeros(100)
    block = address(whole), whole.nbytes
    part, all_of_it = whole[10:20], whole
    del whole
    assert part is not all_of_it
    assert find_array(*block, [here()]) == ("float64", (100,), "all_of_it")
    block_of_part = block
    del all_of_it
    assert find_array(*block_of_part, [here()]) == ("float64", (10,), "part")


def test_reversed_and_strided_views_cover_what_they_cover() -> None:
    backwards = np.zeros((4, 5))[::-1, ::-1]
    assert find_array(address(backwards) - 19 * 8, 160, [here()]) == ("float64", (4, 5), "backwards")
    assert find_array(address(backwards), 160, [here()]) is None


def test_an_array_elsewhere_is_not_taken() -> None:
    near = np.zeros(100)
    assert find_array(address(near) + 8, 800, [here()]) is None
    assert find_array(address(near) - 8, 800, [here()]) is None
    empty = near[50:50]
    assert empty.size == 0
    assert find_array(address(near), 400, [here()]) is None


class Talkative(np.ndarray):
    """Every way in which a subclass may answer for itself."""

    def _cry(self, *args: object, **kwargs: object) -> Any:
        raise AssertionError("the program's code was called")

    __array_interface__ = property(_cry)
    shape = property(_cry)
    strides = property(_cry)
    dtype = property(_cry)
    __getattr__ = __eq__ = __len__ = _cry
    __hash__ = None


class Pretender:
    """What lies about its class is no array."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return np.ndarray

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the program's code was called for {name}")


def test_a_subclass_is_asked_by_the_descriptors_of_ndarray() -> None:
    data = np.zeros(7)
    base = address(data)
    pretender = Pretender()
    talkative = data.view(Talkative)
    del data
    assert type(pretender) is Pretender
    assert find_array(base, 56, [here()]) == ("float64", (7,), "talkative")
    assert talkative is not None


def test_a_class_whose_metaclass_lies_is_passed_over() -> None:
    class Meta(type):
        def __eq__(cls, other: object) -> bool:
            raise AssertionError("the program's code was called")

        __hash__ = type.__hash__

        def __getattribute__(cls, name: str) -> Any:
            raise AssertionError("the program's code was called")

    liar = Meta("Liar", (), {})()
    out = np.zeros(3)
    assert find_array(address(out), 24, [here()]) == ("float64", (3,), "out")
    assert liar is not None


def test_a_namespace_of_the_programs_making_is_not_asked() -> None:
    class Namespace(dict):  # type: ignore[type-arg]
        def items(self) -> Any:
            raise AssertionError("the program's code was called")

    found: list[object] = []
    space = Namespace(find=lambda frame: found.append(find_array(0x1000, 8, [frame])), sys=sys)
    exec("find(sys._getframe())", {}, space)
    assert found == [None]


@pytest.mark.parametrize("replacement", [None, 3, "text"])
def test_without_numpy_nothing_is_found_and_nothing_raised(
    monkeypatch: pytest.MonkeyPatch, replacement: object
) -> None:
    monkeypatch.setitem(sys.modules, "numpy", replacement)
    assert find_array(address(OVER_ALL), OVER_ALL.nbytes, [here()]) is None


def test_structured_and_object_arrays_are_described() -> None:
    record = np.zeros(3, dtype=[("a", "i4"), ("b", "f8")])
    assert find_array(address(record), record.nbytes, [here()]) == (str(record.dtype), (3,), "record")
    objects = np.zeros(5, dtype=object)
    assert find_array(address(objects), objects.nbytes, [here()]) == ("object", (5,), "objects")


def element(of: "np.ndarray[Any, Any]", distance: int) -> str | None:
    """Which element would be so many bytes behind the array's first."""
    found = array.find_array(address(of), max(of.nbytes, 1), [sys._getframe(1)])
    assert found is not None
    at = found.element_at(address(of) + distance)
    return None if at is None else str(at)


def test_an_address_past_the_end_would_be_an_element_of_the_outermost_axis() -> None:
    line = np.zeros(10)
    assert element(line, 80) == "element 10 of 10, axis 0"
    assert element(line, 87) == "element 10 of 10, axis 0"
    assert element(line, -1) == "element -1 of 10, axis 0"
    rows = np.zeros((4, 10))
    assert element(rows, 320) == "element 4 of 4, axis 0"
    assert element(rows, 320 + 79) == "element 4 of 4, axis 0"
    columns = np.zeros((4, 10), order="F")
    assert element(columns, 320) == "element 10 of 10, axis 1"


def test_between_the_elements_of_a_strided_array_there_is_none() -> None:
    whole = np.zeros(40)
    every_other = whole[::2]
    del whole
    base = address(every_other)
    found = array.find_array(base, 320, [here()])
    assert found is not None
    assert str(found.element_at(base + 320)) == "element 20 of 20, axis 0"
    assert found.element_at(base + 328) is None


def test_a_reversed_array_counts_backwards() -> None:
    backwards = np.zeros(10)[::-1]
    found = array.find_array(address(backwards) - 72, 80, [here()])
    assert found is not None
    assert str(found.element_at(address(backwards) + 8)) == "element -1 of 10, axis 0"
    assert str(found.element_at(address(backwards) - 80)) == "element 10 of 10, axis 0"


def test_where_elements_share_their_place_nothing_is_said() -> None:
    same = np.broadcast_to(np.zeros(1), (5,))
    found = array.FoundArray("float64", same.shape, "same", address(same), same.strides, 8)
    assert found.element_at(address(same) + 8) is None
