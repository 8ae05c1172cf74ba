"""What a FaultError says."""

import os
import pickle
import sys
import threading
from collections.abc import Callable
from types import ModuleType

import pytest

from memprot import PAGE_SIZE, FaultError, Region, catch_faults, guarded

WRITES = {"write": 1, "write64": 8, "add64": 8}
READS = {"read": 1, "read64": 8}


def fault_of(act: Callable[[], object]) -> FaultError:
    with pytest.raises(FaultError) as caught, catch_faults():
        act()
    return caught.value


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
def test_a_write_is_told_with_its_size_and_place(misbehave: ModuleType, blocked: Region, name: str, gil: bool) -> None:
    offset = 3 * PAGE_SIZE + 40
    fault = fault_of(lambda: getattr(misbehave, name)(blocked.address + offset, 1, gil=gil))
    # An atomic addition reads and writes; where reading is forbidden too, the kernel may name either.
    assert fault.access == "write" or (name == "add64" and str(blocked.prot) == "---")
    assert (fault.cause, fault.region, fault.offset) == ("protection", blocked, offset)
    assert fault.address == blocked.address + offset
    record = fault.record
    assert record is not None
    assert (record.size, record.kind, record.recovered) == (WRITES[name], "protection", True)
    assert record.block is None
    assert record.distance is None
    unit = "byte" if WRITES[name] == 1 else "bytes"
    assert str(fault) == (
        f"{fault.access} of {WRITES[name]} {unit} at {fault.address:#x}, "
        f"byte {offset} of a Region whose protection forbids it"
    )


@pytest.mark.parametrize("name", READS)
def test_a_read_is_told_with_its_size(misbehave: ModuleType, shared: bool, name: str) -> None:
    with Region(PAGE_SIZE, "---", shared=shared) as region:
        fault = fault_of(lambda: getattr(misbehave, name)(region.address + 16))
        assert (fault.access, fault.offset) == ("read", 16)
        assert fault.record is not None
        assert fault.record.size == READS[name]


def test_a_string_instruction_is_told_with_its_total(misbehave: ModuleType, blocked: Region) -> None:
    fault = fault_of(lambda: misbehave.stosb(blocked.address + 5, 0, 3 * PAGE_SIZE))
    assert fault.record is not None
    if os.uname().machine == "x86_64":
        assert fault.record.size == 3 * PAGE_SIZE
    fault = fault_of(lambda: misbehave.movsb(blocked.address + 5, id(sys), 24))
    assert fault.record is not None
    if os.uname().machine == "x86_64":
        assert fault.record.size == 24


NAMES = {
    "write": "touch_write",
    "write64": "touch_write64",
    "stosb": "touch_stosb",
    "write_bytes": "loop_forwards",
    "hammer": "loop_hammer",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
def test_the_native_stack_names_the_function(misbehave: ModuleType, blocked: Region, name: str, gil: bool) -> None:
    arguments: dict[str, tuple[object, ...]] = {
        "write": (1,),
        "write64": (1,),
        "stosb": (1, 10),
        "write_bytes": (b"abc",),
        "hammer": (16, 4),
    }
    fault = fault_of(lambda: getattr(misbehave, name)(blocked.address, *arguments[name], gil=gil))
    frames = fault.native
    assert frames[0].function == NAMES[name]
    assert frames[0].library is not None
    assert "misbehave" in frames[0].library
    assert frames[0].offset is not None
    assert str(frames[0]).startswith("misbehave")
    assert f"misbehave_{name}" in [frame.function for frame in frames]


def test_the_c_librarys_function_has_its_callers(misbehave: ModuleType, blocked: Region) -> None:
    fault = fault_of(lambda: misbehave.set(blocked.address, 1, 100))
    functions = [frame.function for frame in fault.native]
    assert "libc" in (fault.native[0].library or "")
    assert "touch_set" in functions


def test_the_python_stack_is_exact(misbehave: ModuleType, blocked: Region) -> None:
    def inner() -> None:
        misbehave.write(
            blocked.address,
            1,
        )

    def outer() -> None:
        inner()

    fault = fault_of(outer)
    assert fault.record is not None
    frames = fault.record.python
    assert frames is not None
    first = inner.__code__.co_firstlineno
    assert [(frame.file, frame.line, frame.function.rpartition(".")[2]) for frame in frames[:2]] == [
        (__file__, first + 1, "inner"),
        (__file__, outer.__code__.co_firstlineno + 1, "outer"),
    ]
    assert frames[2].function == "fault_of"


def test_the_line_of_a_statement_that_raises_at_the_end_is_its_own(shared: bool) -> None:
    with Region(PAGE_SIZE, shared=shared) as region:
        view = memoryview(region)
        region.protect("r--")

        def act() -> None:
            with catch_faults():
                len([])
                view[0] = 1

        with pytest.raises(FaultError) as caught:
            act()
        record = caught.value.record
        assert record is not None
        assert record.python is not None
        assert record.python[0].line == act.__code__.co_firstlineno + 3
        view.release()


@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
def test_the_thread_is_named(misbehave: ModuleType, blocked: Region, gil: bool) -> None:
    faults: list[FaultError] = []
    ids: list[int] = []

    def work() -> None:
        ids.append(threading.get_native_id())
        fault = fault_of(lambda: misbehave.write(blocked.address, 1, gil=gil))
        assert fault.thread is not None
        assert fault.thread.name == "the worker"
        faults.append(fault)

    thread = threading.Thread(target=work, name="the worker")
    thread.start()
    thread.join()
    (fault,) = faults
    assert fault.thread is not None
    assert fault.thread.id == ids[0]
    assert threading.main_thread().native_id != ids[0]


def test_the_mapping_is_the_kernels_line(misbehave: ModuleType, blocked: Region) -> None:
    fault = fault_of(lambda: misbehave.write(blocked.address, 1))
    mapping = fault.mapping
    assert mapping.start <= blocked.address < mapping.stop
    assert str(mapping.prot) == str(blocked.prot)


def test_a_guard_tells_the_block_and_the_distance(misbehave: ModuleType) -> None:
    block = guarded(100)
    fault = fault_of(lambda: misbehave.write64(block.address + 97, 0))
    record = fault.record
    assert record is not None
    assert record.block is not None
    assert (fault.cause, fault.offset, record.kind, record.distance) == ("guard", 100, "overflow", 0)
    assert record.size == 5  # of the eight bytes, three were the block's own
    assert (record.block.address, record.block.nbytes) == (block.address, 100)
    allocated = record.block.allocated[0]
    line = test_a_guard_tells_the_block_and_the_distance.__code__.co_firstlineno + 1
    assert (allocated.file, allocated.line) == (__file__, line)
    assert str(fault) == (f"write of 5 bytes at {block.address + 100:#x}, 0 bytes past the end of a block of 100 bytes")


def test_an_accessors_fault_has_no_record_and_says_it_plainly(blocked: Region) -> None:
    with pytest.raises(FaultError) as caught:
        blocked[10] = 1
    fault = caught.value
    assert fault.record is None
    assert (fault.native, fault.others, fault.thread, fault.mapping) == ((), (), None, None) or fault.thread is not None
    assert str(fault) == f"write at {blocked.address + 10:#x}, byte 10 of a Region whose protection forbids it"


def test_a_fault_error_that_nobody_raised_is_an_ordinary_exception() -> None:
    assert str(FaultError("words")) == "words"
    assert str(FaultError()) == ""
    assert FaultError().address is None
    assert issubclass(FaultError, Exception)
    assert not issubclass(FaultError, OSError)
    assert (FaultError.__module__, FaultError.__qualname__) == ("memprot", "FaultError")
    assert str(pickle.loads(pickle.dumps(FaultError("words")))) == "words"


def test_the_type_of_what_is_raised_is_fault_error_itself(misbehave: ModuleType, blocked: Region) -> None:
    assert type(fault_of(lambda: misbehave.write(blocked.address, 1))) is FaultError
    assert type(fault_of(lambda: misbehave.write_from_c_thread(blocked.address, 1))) is FaultError
    handled: tuple[object, ...] = ()
    try:
        with catch_faults():
            misbehave.write(blocked.address, 1)
    except FaultError:
        handled = sys.exc_info()
    assert handled[0] is FaultError
    assert type(handled[1]) is FaultError


def test_a_fault_of_a_thread_without_python_has_a_native_stack(misbehave: ModuleType, blocked: Region) -> None:
    fault = fault_of(lambda: misbehave.write_from_c_thread(blocked.address, 1))
    assert fault.native[0].function == "touch_write"
    assert "write_in_thread" in [frame.function for frame in fault.native]


def test_what_is_known_stays_known_after_the_region_is_closed(misbehave: ModuleType) -> None:
    region = Region(PAGE_SIZE, "r--")
    address = region.address
    fault = fault_of(lambda: misbehave.write(address, 1))
    region.close()
    assert (fault.address, fault.offset, fault.access) == (address, 0, "write")
    assert fault.record is not None
    assert fault.region is region
    assert "byte 0 of a Region" in str(fault)
