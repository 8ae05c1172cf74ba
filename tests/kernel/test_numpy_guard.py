"""memprot.guard.enable("numpy"): every array ends, or begins, at a guard, and is an array like any other."""

import gc
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Literal

import numpy
import pytest

import memprot.guard
from memprot import FaultError, catch_faults

Side = Literal["left", "right"]
Array = numpy.ndarray[Any, Any]
DTYPES = ["u1", "i2", "f4", "f8", "c16", "S3", "V13"]


@pytest.fixture(params=["right", "left"])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    memprot.guard.enable("numpy", side=request.param)
    yield request.param
    memprot.guard.disable("numpy")


@pytest.fixture
def right() -> Iterator[None]:
    memprot.guard.enable("numpy")
    yield
    memprot.guard.disable("numpy")


def address_of(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def beside(array: Array, side: Side) -> int:
    return address_of(array) + (array.nbytes if side == "right" else -1)


def fault_of(misbehave: ModuleType, address: int, gil: bool = True) -> FaultError:
    with pytest.raises(FaultError) as caught, catch_faults():
        misbehave.write(address, 1, gil=gil)
    return caught.value


def is_guarded(misbehave: ModuleType, array: Array, side: Side) -> bool:
    """Whether a byte beside it is a guard; only for arrays in a pool, others have neighbours there."""
    fault = fault_of(misbehave, beside(array, side))
    return fault.cause == "guard" and fault.offset == beside(array, side) - address_of(array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_ends_at_its_guard_to_the_byte(misbehave: ModuleType, side: Side, dtype: str) -> None:
    for length in (1, 2, 13, 100, 511, 4096, 5000, 70_000):
        array = numpy.empty(length, dtype)
        array.view("u1")[:] = 7
        assert is_guarded(misbehave, array, side)
        assert (array.view("u1") == 7).all()


def test_thirteen_bytes_are_thirteen_bytes(misbehave: ModuleType, right: None) -> None:
    array = numpy.arange(13, dtype="u1")
    for _ in range(3):
        fault = fault_of(misbehave, address_of(array) + 13)
        record = fault.record
        assert record is not None
        assert record.block is not None
        assert (fault.offset, record.distance, record.size) == (13, 0, 1)
        assert (record.block.nbytes, record.block.name) == (13, "array")
        assert (record.block.dtype, record.block.shape) == ("uint8", (13,))
    assert array.tolist() == list(range(13))


def test_the_fault_names_the_line_that_allocated(misbehave: ModuleType, side: Side) -> None:
    first = test_the_fault_names_the_line_that_allocated.__code__.co_firstlineno
    array = numpy.ones(50)
    record = fault_of(misbehave, beside(array, side)).record
    assert record is not None
    assert record.block is not None
    assert record.block.nbytes == 400
    frames = [(frame.file, frame.line) for frame in record.block.allocated]
    assert (__file__, first + 2) in frames


def test_a_stride_of_64_kilobytes_still_meets_the_guard(misbehave: ModuleType, right: None) -> None:
    array = numpy.zeros(1000)
    start = address_of(array) + array.nbytes
    with pytest.raises(FaultError) as caught, catch_faults():
        misbehave.hammer(start, 1 << 16, 1)
    assert caught.value.offset == array.nbytes
    with pytest.raises(FaultError) as caught, catch_faults():
        misbehave.write(start + (1 << 16) - 1, 1)
    # The array behind the guard, if there is one, is nearer by now.
    assert (caught.value.cause, caught.value.address) == ("guard", start + (1 << 16) - 1)


def test_overruns_of_arrays_with_neighbours_harm_none_of_them(misbehave: ModuleType, side: Side) -> None:
    arrays = [numpy.full(100, index, "i4") for index in range(50)]
    for array in arrays:
        start = beside(array, side) - (0 if side == "right" else 4999)
        with pytest.raises(FaultError), catch_faults():
            misbehave.stosb(start, 0xEE, 5000)
    for index, array in enumerate(arrays):
        assert (array == index).all()


@pytest.mark.parametrize("size", [1, 13, 1000, 100_000, 524_288, 600_000, 5_000_000])
def test_zeros_are_zero_after_others_have_used_the_memory(side: Side, size: int) -> None:
    for _ in range(4):
        dirty = [numpy.full(size, 255, "u1") for _ in range(3)]
        del dirty
        for make in (numpy.zeros, lambda n, t: numpy.zeros((n, 1), t).ravel()):
            array = make(size, "u1")
            assert not array.any()
            array[:] = 254


def test_resizing_keeps_the_content(misbehave: ModuleType, side: Side) -> None:
    array = numpy.arange(10, dtype="i8")
    for length in (20, 5000, 70_000, 100, 3, 1):
        kept = min(length, len(array))
        array.resize(length, refcheck=False)
        assert array[:kept].tolist() == list(range(kept))
        assert is_guarded(misbehave, array, side)
        array[:] = numpy.arange(length)
    assert numpy.fromiter((index for index in range(5000)), "i8").sum() == 12_497_500


def test_arrays_from_before_are_freed_by_numpy() -> None:
    before = [numpy.ones(length) for length in (1, 100, 100_000)]
    start = memprot.guard.report()["numpy"]
    memprot.guard.enable("numpy")
    try:
        before[1].resize(200, refcheck=False)
        assert before[1][:100].tolist() == [1.0] * 100
        del before
        gc.collect()
    finally:
        memprot.guard.disable("numpy")
    end = memprot.guard.report()["numpy"]
    assert end["left_alone"] >= start["left_alone"] + 2
    assert numpy.ones(100).sum() == 100


def test_arrays_live_on_after_disabling(misbehave: ModuleType) -> None:
    memprot.guard.enable("numpy")
    array = numpy.arange(100)
    memprot.guard.disable("numpy")
    memprot.guard.disable("numpy")
    live = memprot.guard.report()["numpy"]["live_arrays"]
    plain = numpy.arange(100)
    assert memprot.guard.report()["numpy"]["live_arrays"] == live
    assert is_guarded(misbehave, array, "right")
    assert (array == plain).all()
    array.resize(300, refcheck=False)
    assert array[:100].tolist() == list(range(100))
    del array
    assert memprot.guard.report()["numpy"]["live_arrays"] == live - 1


def test_the_report_counts_arrays_and_bytes(side: Side) -> None:
    before = memprot.guard.report()["numpy"]
    arrays = [numpy.empty(1000, "u1") for _ in range(10)]
    during = memprot.guard.report()["numpy"]
    assert during["arrays"] - before["arrays"] == 10
    assert during["bytes"] - before["bytes"] == 10_000
    assert during["live_arrays"] - before["live_arrays"] == 10
    assert during["live_bytes"] - before["live_bytes"] == 10_000
    assert during["overhead"] > 0
    del arrays
    after = memprot.guard.report()["numpy"]
    assert after["arrays"] == during["arrays"]
    assert after["live_bytes"] == before["live_bytes"]


def test_arrays_without_elements(side: Side) -> None:
    arrays = [numpy.empty(0), numpy.zeros((0, 5)), numpy.empty((3, 0, 2), "i2"), numpy.array([], "S0")]
    assert all(array.size == 0 for array in arrays)
    arrays[0].resize(5, refcheck=False)
    assert arrays[0].tolist() == [0.0] * 5


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f8", "c16", "longdouble"])
def test_data_is_aligned_as_its_type_needs(side: Side, dtype: str) -> None:
    for length in range(1, 40):
        for array in (numpy.empty(length, dtype), numpy.zeros((length, 3), dtype)):
            assert array.flags.aligned
            assert address_of(array) % array.dtype.alignment == 0


def test_a_huge_array_is_guarded_and_costs_what_is_touched(misbehave: ModuleType, side: Side) -> None:
    array = numpy.zeros(1 << 30, "u1")
    assert is_guarded(misbehave, array, side)
    array[1 << 29] = 1
    assert array[1 << 29] == 1
    with pytest.raises(MemoryError):
        numpy.empty(1 << 60, "u1")


def test_threads_allocate_compute_and_free(misbehave: ModuleType, side: Side) -> None:
    sums: list[int] = []

    def work(seed: int) -> None:
        random = numpy.random.default_rng(seed)
        for _ in range(150):
            length = int(random.integers(1, 3000))
            array = numpy.ones((length, 3), "i8")
            total = int((array @ numpy.ones(3, "i8")).sum())
            assert total == 3 * length
            kept.append(array[: length // 2])
            if len(kept) > 40:
                kept.pop(0)
        last = numpy.zeros(100)
        fault = fault_of(misbehave, beside(last, side), gil=False)
        sums.append(fault.offset or 0)

    kept: list[Array] = []
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [800 if side == "right" else -1] * 4


def test_a_block_that_is_freed_before_its_fault_is_claimed_leaves_a_closed_guard(
    misbehave: ModuleType, side: Side
) -> None:
    """The next array in the same place has its guard, whoever comes to claim the fault."""
    for _ in range(5):
        scope = catch_faults()
        holder = [numpy.ones(100)]
        place = beside(holder[0], side)
        with scope:
            with pytest.raises(FaultError):
                misbehave.write_then_call(place, 1, holder.clear)  # no Python in between
            again = numpy.ones(100)
            same = beside(again, side) == place
            with pytest.raises(FaultError):
                misbehave.write(beside(again, side), 1)
        assert same
        assert len(scope.faults) == 2
        assert scope.faults[0].record is not None
        assert scope.faults[0].record.block is not None
        assert scope.faults[0].record.block.nbytes == 800
        del again


def test_the_usual_work_gives_the_usual_results(side: Side) -> None:
    random = numpy.random.default_rng(1)
    matrix = random.random((100, 100))
    assert numpy.allclose(matrix @ numpy.linalg.inv(matrix), numpy.eye(100), atol=1e-6)
    assert numpy.allclose(numpy.fft.ifft(numpy.fft.fft(matrix)).real, matrix)
    assert numpy.array_equal(numpy.sort(matrix.ravel())[::-1], -numpy.sort(-matrix.ravel()))
    words = numpy.array(["a", "bcd"] * 50)
    assert "".join(words.tolist()) == "abcd" * 50
    objects = numpy.array([{"a": index} for index in range(100)], dtype=object)
    assert sum(item["a"] for item in objects) == 4950
    assert numpy.concatenate([matrix, matrix]).shape == (200, 100)
    assert numpy.array(matrix, copy=True).sum() == matrix.sum()


def test_other_targets_and_sides_are_value_errors() -> None:
    with pytest.raises(ValueError, match="guarded"):
        memprot.guard.enable("everything")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="guarded"):
        memprot.guard.disable("everything")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="side"):
        memprot.guard.enable("numpy", side="up")  # type: ignore[arg-type]
