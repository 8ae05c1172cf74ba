"""What can be protected, which pages that are, and what is refused."""

import array
import ctypes
import decimal
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pages import SIZE, address_of, private_pages, protections, shared_pages

from memprot import PAGE_SIZE, Prot, ProtectionError, Reason, Region, guarded, protect, protected, seal

numpy = pytest.importorskip("numpy")

Target = Callable[[], Any]


def aligned(buffer: Any, pages: int = 2) -> Any:
    """Whole pages from within a buffer that is larger."""
    lead = -address_of(buffer) % PAGE_SIZE
    return memoryview(buffer).cast("B")[lead : lead + pages * PAGE_SIZE]


WHOLE: dict[str, Target] = {
    "private mmap": private_pages,
    "shared mmap": shared_pages,
    "mmap that ends within a page": lambda: mmap.mmap(-1, 100),
    "memoryview": lambda: memoryview(private_pages())[PAGE_SIZE : 2 * PAGE_SIZE],
    "read-only memoryview": lambda: memoryview(private_pages()).toreadonly(),
    "bytearray": lambda: aligned(bytearray(5 * PAGE_SIZE)),
    "bytes": lambda: aligned(bytes(range(256)) * 100),
    "array": lambda: aligned(array.array("d", bytes(5 * PAGE_SIZE))),
    "ctypes array": lambda: aligned((ctypes.c_char * (5 * PAGE_SIZE))()),
    "ctypes over mmap": lambda: (ctypes.c_char * 100).from_buffer(mmap.mmap(-1, 100)),
    "NumPy over mmap": lambda: numpy.frombuffer(private_pages(), "f8")[512:1024],
    "NumPy matrix": lambda: numpy.frombuffer(private_pages(), "u1").reshape(6, PAGE_SIZE)[1:3],
    "NumPy dates": lambda: numpy.frombuffer(private_pages(), "u1").view("M8[s]"),
    "Fortran order": lambda: numpy.ndarray((2, PAGE_SIZE), "u1", private_pages(2), order="F"),
    "Region": lambda: Region(SIZE),
    "Region that ends within a page": lambda: Region(100),
    "array of a Region that ends within a page": lambda: Region(PAGE_SIZE + 800).array("f8"),
    "guarded": lambda: guarded(100),
    "guarded on the left": lambda: guarded(100, "left"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_pages_are_protected(name: str) -> None:
    target = WHOLE[name]()
    with protected(target, "r--") as same:
        assert same is target
        assert set(protections(target)) == {"r--"}
    assert set(protections(target)) == {"rw-"}
    protect(target, "r--")
    assert set(protections(target)) == {"r--"}
    protect(target, "rw-")
    assert set(protections(target)) == {"rw-"}


SHARING: dict[str, tuple[Target, str]] = {
    "small bytearray": (lambda: bytearray(100), "malloc"),
    "array that is not aligned": (lambda: numpy.zeros(100_000), "malloc"),
    "bytes": (lambda: b"x" * 100, "bytes object itself"),
    "part of an mmap": (lambda: memoryview(private_pages())[:100], "other bytes of the same mmap"),
    "part of a Region": (lambda: memoryview(Region(SIZE))[100:], "other bytes of the same Region"),
    "part of an array": (lambda: numpy.frombuffer(private_pages(), "u1")[PAGE_SIZE:-1], "same mmap"),
    "part of a large array": (lambda: numpy.zeros(10 * PAGE_SIZE, "u1")[5 * PAGE_SIZE :], "same ndarray"),
    "field of a structure": (lambda: (ctypes.c_char * 9000)(), "other"),
}


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("do", [protect, protected], ids=["protect", "protected"])
def test_a_page_that_holds_other_bytes_too_is_refused_and_they_are_named(do: Callable[..., Any], name: str) -> None:
    make, words = SHARING[name]
    target = make()
    before = protections(target)
    with pytest.raises(ProtectionError, match=words) as caught:
        do(target, "rw-")
    error = caught.value
    assert error.reason is Reason.SHARED_PAGE
    assert error.start is not None
    assert error.start % PAGE_SIZE == 0
    assert error.stop == error.start + PAGE_SIZE
    assert error.mapping is not None
    assert error.mapping.start <= error.start < error.mapping.stop
    assert error.hint is not None
    assert "neighbours=True" in error.hint
    assert protections(target) == before


def test_neighbours_are_protected_when_they_may_be() -> None:
    memory = private_pages()
    part = memoryview(memory)[PAGE_SIZE - 1 : PAGE_SIZE + 1]
    with protected(part, "r--", neighbours=True):
        assert protections(memory) == ["r--", "r--", "rw-", "rw-", "rw-", "rw-"]
    assert protections(memory) == ["rw-"] * 6
    large = numpy.zeros(5 << 20)  # so large that malloc maps it by itself, and no other object is on its pages
    with protected(large, "r--", neighbours=True):
        assert set(protections(large)) == {"r--"}


def test_an_array_with_gaps_needs_its_neighbours() -> None:
    memory = numpy.frombuffer(private_pages(), "u1")
    for view in (memory[::2], memory[::-1], memory.reshape(6, -1)[:, ::2]):
        with pytest.raises(ValueError, match="not contiguous"):
            protect(view, "r--")
        with pytest.raises(ValueError, match="not contiguous"):
            seal(view)


@pytest.mark.parametrize("step", [2, -2, 3, -5])
def test_the_whole_span_of_an_array_with_gaps_is_protected(step: int) -> None:
    memory = numpy.frombuffer(private_pages(), "u1")
    view = memory[PAGE_SIZE + 10 : 4 * PAGE_SIZE][::step]
    with protected(view, "r--", neighbours=True):
        assert protections(memory) == ["rw-", "r--", "r--", "r--", "rw-", "rw-"]
    columns = memory.reshape(6, PAGE_SIZE)[4:2:-1, 5:10]
    with protected(columns, "r--", neighbours=True):
        assert protections(memory) == ["rw-", "rw-", "rw-", "r--", "r--", "rw-"]
    assert protections(memory) == ["rw-"] * 6


EMPTY = [b"", bytearray(), numpy.zeros(0), numpy.zeros((3, 0)), memoryview(b"abc")[1:1]]


@pytest.mark.parametrize("empty", EMPTY, ids=lambda empty: type(empty).__name__)
def test_nothing_is_done_to_an_empty_buffer(empty: Any) -> None:
    protect(empty, "---")
    with protected(empty, "---") as same:
        assert same is empty
    seal(empty)


@pytest.mark.parametrize("target", [None, 1, 1.5, "text", [1], object(), decimal.Decimal(1), {}], ids=repr)
def test_an_object_without_a_buffer_is_a_type_error(target: Any) -> None:
    for do in (lambda: protect(target, "r--"), lambda: protected(target, "r--"), lambda: seal(target)):
        with pytest.raises(TypeError, match="buffer"):
            do()


def closed_mmap() -> mmap.mmap:
    memory = mmap.mmap(-1, 100)
    memory.close()
    return memory


def released_view() -> memoryview:
    view = memoryview(bytearray(5))
    view.release()
    return view


def closed_region() -> Region:
    region = Region(100)
    region.close()
    return region


@pytest.mark.parametrize("make", [closed_mmap, released_view, closed_region])
def test_memory_that_was_given_back_is_a_value_error(make: Target) -> None:
    target = make()
    for do in (lambda: protect(target, "r--"), lambda: protected(target, "r--"), lambda: seal(target)):
        with pytest.raises(ValueError, match=r"closed|released"):
            do()


@pytest.mark.parametrize(
    ("prot", "kind"),
    [(True, TypeError), (1.0, TypeError), (None, TypeError), (b"r--", TypeError), ("rwz", ValueError), (-1, ValueError),
     ("", ValueError), (2**64, OverflowError), (2**200, OverflowError), (Prot.GROWSDOWN, ValueError),
     (Prot.READ | Prot.GROWSUP, ValueError)],
)  # fmt: skip
def test_what_is_no_protection_changes_nothing(prot: Any, kind: type[Exception]) -> None:
    memory = private_pages()
    for do in (protect, protected):
        with pytest.raises(kind):
            do(memory, prot)
    assert protections(memory) == ["rw-"] * 6
    memory.close()


@pytest.mark.parametrize("prot", [1 << 32 | 5, 1 << 63, 2**64 - 1 & ~0x3000000, 16 | 1])
def test_the_kernel_sees_every_bit(prot: int) -> None:
    memory = private_pages()
    with pytest.raises(ProtectionError) as caught:
        protect(memory, prot)
    assert caught.value.errno == 22
    assert protections(memory) == ["rw-"] * 6
    memory.close()


def test_semaphore_memory_is_what_linux_makes_of_it() -> None:
    memory = private_pages()
    with protected(memory, Prot.READ | Prot.SEM):
        assert protections(memory) == ["r--"] * 6
    memory.close()


def test_a_file_that_was_opened_for_reading_is_not_made_writable(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    with open(path, "rb") as file, mmap.mmap(file.fileno(), SIZE, prot=mmap.PROT_READ) as memory:
        with pytest.raises(PermissionError):
            protect(memory, "rw-")
        assert protections(memory) == ["r--"] * 6
