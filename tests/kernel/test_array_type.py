"""The array of a Region is an array like any other: what is computed from it is plain, views of it are as it is."""

import copy
import ctypes
import gc
import pickle
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memprot import PAGE_SIZE, Region, protect, protected

numpy = pytest.importorskip("numpy")

Array = Any
Make = Callable[[Array], Any]

VIEWS: dict[str, Make] = {
    "slice": lambda v: v[2:5],
    "step": lambda v: v[::-2],
    "everything": lambda v: v[:],
    "ellipsis": lambda v: v[...],
    "one element": lambda v: v[3, ...],
    "new axis": lambda v: v[None, :],
    "row": lambda v: v.reshape(4, -1)[1],
    "transposed": lambda v: v.reshape(4, -1).T,
    "axes": lambda v: v.reshape(4, -1).swapaxes(0, 1),
    "another type": lambda v: v.view("u1"),
    "field": lambda v: v.view([("a", "f4"), ("b", "i4")])["a"],
    "fields": lambda v: v.view([("a", "f4"), ("b", "i4"), ("c", "f8")])[["c", "a"]],
    "part of each": lambda v: v.getfield("i2", 2),
    "real": lambda v: v.view("c16").real,
    "imag": lambda v: v.view("c16").imag,
    "diagonal": lambda v: v.reshape(4, -1).diagonal(),
    "squeezed": lambda v: v.reshape(1, -1).squeeze(),
    "ravelled": lambda v: v.reshape(4, -1).ravel(),
    "flipped": numpy.flip,
    "rolled axes": lambda v: numpy.moveaxis(v.reshape(2, 4, -1), 0, 2),
    "parts": lambda v: numpy.split(v, 4)[1],
    "two dimensions": numpy.atleast_2d,
    "broadcast": lambda v: numpy.broadcast_to(v, (3, len(v)), subok=True),
    "any array": numpy.asanyarray,
    "given out": lambda v: numpy.add(v, 1, out=v),
    "given out of a sum": lambda v: numpy.sum(v.reshape(4, -1), axis=1, out=v[:4]),
    "cumulated": lambda v: numpy.cumsum(v, out=v),
}
PLAIN: dict[str, Make] = {
    "sum": lambda v: v + 1,
    "reflected": lambda v: 1 + v,
    "sum of both kinds": lambda v: numpy.ones(len(v)) + v,
    "NumPy's number": lambda v: numpy.float64(2) * v,
    "minus": lambda v: -v,
    "power": lambda v: v**2,
    "comparison": lambda v: v == 1,
    "function": numpy.sin,
    "two results": lambda v: numpy.divmod(v, 2)[1],
    "sum of rows": lambda v: v.reshape(4, -1).sum(axis=0),
    "kept dimensions": lambda v: v.sum(keepdims=True),
    "accumulated": numpy.cumsum,
    "outer": lambda v: numpy.add.outer(v[:3], v[:3]),
    "dot": lambda v: numpy.dot(v.reshape(8, -1), v.reshape(-1, 8)),
    "matrix product": lambda v: v.reshape(8, -1) @ v.reshape(-1, 8),
    "copy": lambda v: v.copy(),
    "copy of a copy": lambda v: v.copy()[1:],
    "numpy.copy": lambda v: numpy.copy(v, subok=True),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "deep in a list": lambda v: copy.deepcopy([v])[0],
    "pickle": lambda v: pickle.loads(pickle.dumps(v)),
    "old pickle": lambda v: pickle.loads(pickle.dumps(v, 2)),
    "pickle out of band": lambda v: pickle.loads(pickle.dumps(v, 5, buffer_callback=lambda _: None), buffers=[v]),
    "pickled flat": lambda v: pickle.loads(pickle.dumps(v.reshape(4, -1).T)),
    "converted": lambda v: v.astype("f4"),
    "swapped": lambda v: v.byteswap(),
    "places": lambda v: v[[1, 2]],
    "mask": lambda v: v[v > 2],
    "taken": lambda v: v.take([1, 2]),
    "repeated": lambda v: v.repeat(2),
    "flattened": lambda v: v.flatten(),
    "sorted": numpy.sort,
    "places of": lambda v: v.argsort(),
    "joined": lambda v: numpy.concatenate([v, v]),
    "stacked": lambda v: numpy.stack([v, v]),
    "where": lambda v: numpy.where(v > 2, v, 0),
    "like": numpy.empty_like,
    "zeros like": numpy.zeros_like,
    "plain": numpy.asarray,
    "viewed as plain": lambda v: v.view(numpy.ndarray),
    "new array": numpy.array,
    "iterator's copy": lambda v: v.flat.copy(),
    "iterator's part": lambda v: v.flat[2:4],
    "tiled": lambda v: numpy.tile(v, 2),
    "padded": lambda v: numpy.pad(v, 2),
    "clipped": lambda v: v.clip(1, 2),
    "gradient": numpy.gradient,
    "solution": lambda v: numpy.linalg.inv(v[:4].reshape(2, 2)),
    "transformed": lambda v: numpy.fft.fft(v),
    "along an axis": lambda v: numpy.apply_along_axis(sum, 0, v.reshape(4, -1)),
    "einsum": lambda v: numpy.einsum("i,i->i", v, v),
}
NUMBERS: dict[str, Make] = {
    "element": lambda v: v[3],
    "sum": lambda v: v.sum(),
    "mean": numpy.mean,
    "dot": lambda v: v @ v,
    "most": numpy.max,
    "of no dimension": lambda v: v[3, ...] + 1,
    "empty key": lambda v: v[3, ...][()],
    "function of one": lambda v: numpy.sin(v[3, ...]),
    "element of flat": lambda v: v.flat[3],
    "determinant": lambda v: numpy.linalg.det(v[:4].reshape(2, 2)),
}


@pytest.fixture
def region() -> Iterator[Region]:
    with Region(PAGE_SIZE) as made:
        yield made


@pytest.fixture
def array(region: Region) -> Array:
    made = region.array("f8")
    made[:] = numpy.arange(len(made)) % 7 + numpy.eye(1, len(made))[0]
    return made


def same(one: Any, other: Any) -> bool:
    return bool(numpy.array_equal(one, other, equal_nan=numpy.asarray(one).dtype.kind == "f"))


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_of_it_is_as_it_is(array: Array, name: str) -> None:
    plain = VIEWS[name](numpy.array(array))
    view = VIEWS[name](array)
    assert type(view) is type(array)
    assert numpy.shares_memory(view, array)
    assert (view.dtype, view.shape, view.strides) == (plain.dtype, plain.shape, plain.strides)
    assert same(view, plain)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_copied_or_computed_is_plain(array: Array, name: str) -> None:
    expected = PLAIN[name](numpy.array(array))
    made = PLAIN[name](array)
    assert type(made) is numpy.ndarray
    assert (made.dtype, made.shape) == (expected.dtype, expected.shape)
    assert name == "like" or same(made, expected)
    assert not numpy.shares_memory(made, array) or name in ("plain", "viewed as plain", "pickle out of band")


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_numbers(array: Array, name: str) -> None:
    assert type(NUMBERS[name](array)) is type(NUMBERS[name](array.copy()))
    assert NUMBERS[name](array) == NUMBERS[name](array.copy())


def test_it_looks_like_an_array_and_is_one(array: Array) -> None:
    plain = array.copy()
    for one, other in ((array, plain), (array.reshape(8, -1), plain.reshape(8, -1)), (array[:0], plain[:0])):
        assert isinstance(one, numpy.ndarray)
        assert (repr(one), str(one), f"{one[:1]}") == (repr(other), str(other), f"{other[:1]}")
        assert one.tolist() == other.tolist()
        assert numpy.array_repr(one) == numpy.array_repr(other)
    assert repr(array[3, ...]) == repr(plain[3, ...])
    assert dir(array) == dir(plain)


def test_in_place_it_stays_itself(array: Array) -> None:
    name = array
    name += 1
    name *= 2.5
    assert name is array


def test_it_has_the_same_attributes_to_set(array: Array) -> None:
    array = array.view("i8").reshape(4, -1)
    array.flat = range(3)
    assert array[0, :4].tolist() == [0, 1, 2, 0]
    array.flat[1:3] = 7
    assert array.flat[:3].tolist() == [0, 7, 7]
    assert isinstance(array.flat, numpy.flatiter)
    assert array.flat.base is array
    with pytest.raises(AttributeError, match="has no attribute 'colour'"):
        array.colour = 1


def test_references_to_it_are_counted(region: Region) -> None:
    array = region.array("f8")
    noted = weakref.ref(array)
    counts = [sys.getrefcount(object_) for object_ in (type(array), numpy.ndarray, region)]
    for _ in range(200):
        for make in (*VIEWS.values(), *PLAIN.values(), *NUMBERS.values()):
            array[:4] = 1, 0, 1, 2
            array[4:] = 1
            make(array)
    gc.collect()
    assert [
        sys.getrefcount(object_) - 50 <= count
        for object_, count in zip((type(array), numpy.ndarray, region), counts, strict=True)
    ] == [True] * 3
    assert sys.getrefcount(array) == 2
    del array
    assert noted() is None
    region.close()


def test_what_asks_for_a_buffer_gets_the_bytes(region: Region, array: Array) -> None:
    assert memoryview(array).tobytes() == region[:]
    assert ctypes.c_double.from_buffer(array, 8).value == array[1]
    assert array.ctypes.data == region.address
    assert array.__array_interface__["data"] == (region.address, False)
    assert numpy.from_dlpack(array).ctypes.data == region.address
    assert numpy.frombuffer(array).ctypes.data == region.address


def test_its_base_is_the_region(region: Region, array: Array) -> None:
    assert array.base is region
    assert array[1:].base is array
    assert array[1:][1:].base is array
    assert (array.flags.owndata, array.flags.writeable) == (False, True)


def test_it_is_protected_as_its_region(region: Region, array: Array) -> None:
    with protected(array, "r--") as given:
        assert given is array
        assert str(region.prot) == "r--"
    protect(array, "r--")
    assert str(region.prot) == "r--"


def test_an_array_of_objects_is_refused(region: Region) -> None:
    for kind in ("O", [("number", "i8"), ("name", "O")]):
        with pytest.raises(ValueError, match="references to objects"):
            region.array(kind)


def test_masked_arrays_and_records_are_made_of_it(array: Array) -> None:
    masked = numpy.ma.masked_greater(array, 3)
    assert masked.sum() == array[array <= 3].sum()
    assert type(masked + 1) is numpy.ma.MaskedArray
    assert type(array.view(numpy.recarray)) is numpy.recarray


class Other:
    """Wants to be asked first."""

    __array_ufunc__ = None

    def __radd__(self, other: object) -> str:
        return "radd"

    def __rmatmul__(self, other: object) -> str:
        return "rmatmul"

    def __lt__(self, other: object) -> bool:
        return True

    def __gt__(self, other: object) -> bool:
        return True


def test_others_are_asked_as_a_plain_array_asks_them(array: Array) -> None:
    for one in (array, array.copy()):
        assert one + Other() == "radd"
        assert one @ Other() == "rmatmul"
        assert (one > Other()) is True
        assert type(one + numpy.ma.masked_array([1.0])) is numpy.ma.MaskedArray
        with pytest.raises(TypeError):
            one + object()
    copied = array.copy()
    with pytest.raises(TypeError):
        copied += Other()


def test_nothing_can_be_derived_from_it(array: Array) -> None:
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Derived", (type(array),), {})
