"""A Region as a buffer of bytes: indexing, slices, read and write, views, errors."""

import array
import ctypes
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memprot import PAGE_SIZE, FaultError, Prot, ProtectionError, Region

SIZE = 1000


@pytest.fixture
def region(shared: bool) -> Iterator[Region]:
    with Region(SIZE, shared=shared) as region:
        region[:] = bytes(i % 256 for i in range(SIZE))
        yield region


def test_its_length_is_the_size_asked_for(shared: bool) -> None:
    for size in (1, 2, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 10 * PAGE_SIZE):
        with Region(size, shared=shared) as region:
            assert len(region) == region.size == memoryview(region).nbytes == size
            assert region[:] == bytes(size)
            assert region.address % PAGE_SIZE == 0
            assert region.shared is shared
            assert not region.closed
            assert not region.guarded


@pytest.mark.parametrize("size", [True, 1.0, "1", None, b"1"])
def test_a_size_that_is_no_int_is_a_type_error(size: object) -> None:
    with pytest.raises(TypeError, match="size must be an int"):
        Region(size)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -1, -PAGE_SIZE])
def test_a_size_below_one_byte_is_a_value_error(size: int) -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        Region(size)


def test_a_size_beyond_64_bits_is_an_overflow_error() -> None:
    with pytest.raises(OverflowError):
        Region(2**64)


@pytest.mark.parametrize("size", [2**62, 2**63 - 1])
def test_a_size_beyond_the_address_space_is_the_kernels_error(size: int, shared: bool) -> None:
    with pytest.raises(ProtectionError):
        Region(size, shared=shared)


@pytest.mark.parametrize("prot", ["rwx-", "", "xwr", "r", -1])
def test_a_protection_that_is_none_is_a_value_error(prot: str | int) -> None:
    with pytest.raises(ValueError, match="protection"):
        Region(1, prot)
    with Region(1) as region, pytest.raises(ValueError, match="protection"):
        region.protect(prot)


@pytest.mark.parametrize("prot", [True, None, 1.0, b"r--"])
def test_a_protection_of_another_type_is_a_type_error(prot: object) -> None:
    with pytest.raises(TypeError, match="protection"):
        Region(1, prot)  # type: ignore[arg-type]
    with Region(1) as region, pytest.raises(TypeError, match="protection"):
        region.protect(prot)  # type: ignore[arg-type]


def test_bytes_are_read_and_written_by_index(region: Region) -> None:
    assert region[0] == 0
    assert region[-1] == (SIZE - 1) % 256
    assert region[numpy.int64(7)] == 7
    region[5] = 255
    region[-SIZE] = True
    assert (region[5], region[0]) == (255, 1)


@pytest.mark.parametrize("index", [SIZE, -SIZE - 1, 2**63, -(2**64), PAGE_SIZE])
def test_an_index_outside_is_an_index_error(region: Region, index: int) -> None:
    with pytest.raises(IndexError):
        region[index]
    with pytest.raises(IndexError):
        region[index] = 0


@pytest.mark.parametrize("index", [1.0, "1", None, (0, 1), [0]])
def test_an_index_of_another_type_is_a_type_error(region: Region, index: object) -> None:
    with pytest.raises(TypeError):
        region[index]  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        region[index] = 0  # type: ignore[call-overload]


@pytest.mark.parametrize("value", [256, -1, 1000])
def test_a_value_that_is_no_byte_is_a_value_error(region: Region, value: int) -> None:
    with pytest.raises(ValueError, match="0 to 255"):
        region[0] = value


@pytest.mark.parametrize("value", ["1", None, 1.0, b"1"])
def test_a_value_of_another_type_is_a_type_error(region: Region, value: object) -> None:
    with pytest.raises(TypeError):
        region[0] = value  # type: ignore[call-overload]


def test_a_value_beyond_64_bits_is_an_overflow_error(region: Region) -> None:
    with pytest.raises(OverflowError):
        region[0] = 2**64


INDICES = st.none() | st.integers(-SIZE - 5, SIZE + 5)


@given(INDICES, INDICES, st.none() | st.integers(-SIZE, SIZE).filter(bool))
def test_slices_are_those_of_a_bytearray(start: int | None, stop: int | None, step: int | None) -> None:
    model = bytearray(i % 251 for i in range(SIZE))
    key = slice(start, stop, step)
    with Region(SIZE) as region:
        region[:] = model
        assert region[key] == bytes(model[key])
        new = bytes(255 - i % 256 for i in range(len(model[key])))
        region[key] = new
        model[key] = new
        assert region.read() == bytes(model)


def test_a_slice_with_step_zero_is_a_value_error(region: Region) -> None:
    with pytest.raises(ValueError, match="zero"):
        region[::0]
    with pytest.raises(ValueError, match="zero"):
        region[::0] = b""


def test_a_slice_keeps_its_length(region: Region) -> None:
    for key, data in ((slice(0, 3), b"ab"), (slice(0, 3), b"abcd"), (slice(None, None, 2), b"x"), (slice(5, 1), b"x")):
        with pytest.raises(ValueError, match="keeps its size"):
            region[key] = data
    assert region[:4] == b"\0\1\2\3"


def test_bytes_cannot_be_deleted(region: Region) -> None:
    with pytest.raises(TypeError, match="deleted"):
        del region[0]  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="deleted"):
        del region[:]  # type: ignore[attr-defined]


def test_any_buffer_may_be_stored(region: Region) -> None:
    buffers: tuple[Any, ...] = (
        bytearray(b"12345678"),
        memoryview(b"12345678"),
        array.array("q", [1]),
        numpy.arange(8, dtype="u1"),
    )
    for data in buffers:
        region[8:16] = data
        assert region[8:16] == bytes(data)
        assert region.write(16, data) == 8
        assert region.read(16, 8) == bytes(data)


def test_it_may_be_copied_onto_itself(region: Region) -> None:
    before = region.read()
    region[:] = region
    assert region.read() == before
    region[::-1] = before
    assert region.read() == before[::-1]


@pytest.mark.parametrize("value", [1, "text", None, [1]])
def test_a_slice_takes_buffers_only(region: Region, value: object) -> None:
    with pytest.raises(TypeError):
        region[0:1] = value  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        region.write(0, value)  # type: ignore[arg-type]


def test_read_and_write_take_offset_and_size(region: Region) -> None:
    assert region.read() == region[:]
    assert region.read(10) == region[10:]
    assert region.read(10, 5) == region.read(offset=10, size=5) == region[10:15]
    assert region.read(SIZE) == region.read(5, 0) == b""
    assert region.write(3, b"abc") == region.write(offset=3, data=b"abc") == 3
    assert region[3:6] == b"abc"
    assert region.write(SIZE, b"") == 0


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (0, -1), (0, SIZE + 1), (SIZE, 1), (SIZE + 1, 0), (2**62, 1)])
def test_a_read_or_write_that_does_not_lie_within_is_a_value_error(region: Region, offset: int, size: int) -> None:
    with pytest.raises(ValueError, match="do not lie within"):
        region.read(offset, size)
    if size >= 0:
        with pytest.raises(ValueError, match="do not lie within"):
            region.write(offset, bytes(size))


def test_offsets_beyond_64_bits_are_overflow_errors(region: Region) -> None:
    with pytest.raises(OverflowError):
        region.read(2**64)
    with pytest.raises(OverflowError):
        region.read(0, 2**64)
    with pytest.raises(OverflowError):
        region.write(2**64, b"")


@pytest.mark.parametrize("offset", [1.5, None, "0"])
def test_offsets_of_another_type_are_type_errors(region: Region, offset: object) -> None:
    with pytest.raises(TypeError):
        region.read(offset)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        region.write(offset, b"")  # type: ignore[arg-type]


def test_a_view_shows_and_changes_the_bytes(region: Region) -> None:
    view = memoryview(region)
    assert not view.readonly
    view[0] = 9
    assert region[0] == 9
    region[1] = 8
    assert view[1] == 8
    view.release()


def test_an_array_lies_over_the_bytes(region: Region) -> None:
    words = region.array("u4")
    assert words.shape == (SIZE // 4,)
    assert words.ctypes.data == region.address
    words[1] = 0xFFFFFFFF
    assert region[4:8] == b"\xff" * 4
    assert region.array("u8", (5, 5)).shape == (5, 5)
    assert region.array("S3").shape == (SIZE // 3,)
    assert region.array("u1", 10).shape == (10,)
    with pytest.raises((ValueError, TypeError)):
        region.array("u8", 1000)
    del words
    gc.collect()


def test_an_exported_buffer_forbids_closing(region: Region) -> None:
    view = memoryview(region)
    with pytest.raises(BufferError, match="still in use"):
        region.close()
    assert region[0] == 0
    view.release()


def test_a_closed_region_answers_with_a_value_error() -> None:
    region = Region(PAGE_SIZE)
    region.close()
    region.close()
    assert region.closed
    assert repr(region) == "<Region closed>"
    actions: list[Callable[[], object]] = [
        lambda: region[0],
        lambda: region[0:1],
        lambda: region.__setitem__(0, 1),
        lambda: region.read(),
        lambda: region.write(0, b"a"),
        lambda: region.protect("r--"),
        lambda: region.protected("r--").__enter__(),
        lambda: memoryview(region),
        lambda: region.array("u1"),
        lambda: region.address,
        lambda: region.prot,
        lambda: region.mappings,
        lambda: region.discard(),
        lambda: region.advise(4),
        lambda: region.extent,
    ]
    for action in actions:
        with pytest.raises(ValueError, match="closed"):
            action()
    assert len(region) == PAGE_SIZE


def test_it_shows_its_address_size_and_protection(region: Region) -> None:
    assert repr(region) == f"<Region {region.address:#x} {SIZE} bytes rw->"
    region.protect("r--")
    assert repr(region).endswith("bytes r-->")


def test_it_can_be_referred_to_weakly_and_subclassed() -> None:
    class Named(Region):
        label = "mine"

    region = Named(10)
    region.note = "attributes too"  # type: ignore[attr-defined]
    reference = weakref.ref(region)
    assert reference() is region
    assert (region.label, len(region)) == ("mine", 10)
    address = region.address
    del region
    gc.collect()
    assert reference() is None
    assert not any(start <= address < stop for start, stop in mapped_ranges())


def mapped_ranges() -> list[tuple[int, int]]:
    with open("/proc/self/maps") as maps:
        pairs = [line.split()[0].split("-") for line in maps]
    return [(int(start, 16), int(stop, 16)) for start, stop in pairs]


def test_it_cannot_be_mapped_a_second_time(region: Region) -> None:
    with pytest.raises(ValueError, match="mapped already"):
        region.__init__(10)  # type: ignore[misc]
    assert len(region) == SIZE


def test_one_that_was_never_mapped_is_closed() -> None:
    region = Region.__new__(Region)
    assert region.closed
    assert len(region) == 0
    with pytest.raises(ValueError, match="closed"):
        region[0]
    region.close()


def test_its_name_stands_in_the_maps_or_is_ignored(shared: bool) -> None:
    with Region(PAGE_SIZE, shared=shared, name="my-buffer") as region:
        (mapping,) = region.mappings
        assert mapping.path is None or "my-buffer" in mapping.path


def test_a_copy_between_regions_names_the_one_that_forbids_it(shared: bool) -> None:
    with Region(PAGE_SIZE, shared=shared) as source, Region(PAGE_SIZE, shared=shared) as target:
        view = memoryview(source)
        source.protect("---")
        with pytest.raises(FaultError) as caught:
            target[:] = view
        assert caught.value.access == "read"
        assert caught.value.address == source.address
        assert target[:] == bytes(PAGE_SIZE)
        view.release()


def test_huge_pages_are_a_wish() -> None:
    with Region(4 << 20, huge=True) as region:
        region[-1] = 1
        assert region[-1] == 1


def test_a_region_of_a_gigabyte_costs_what_is_touched(shared: bool) -> None:
    size = 1 << 30
    with Region(size, shared=shared) as region:
        region[size - 1] = 7
        region.protect("r--")
        with pytest.raises(FaultError) as caught:
            region[size // 2] = 1
        assert caught.value.offset == size // 2
        assert region[size - 1] == 7
        assert region.read(size - 3) == b"\0\0\7"


def test_ctypes_takes_it_as_a_buffer(region: Region) -> None:
    words = (ctypes.c_uint8 * 4).from_buffer(region)
    words[0] = 200
    assert region[0] == 200
    del words
    gc.collect()
    assert Prot.READ in (region.prot or Prot.NONE)
