"""What the functions of memprot.calls take, and what they refuse before the kernel is asked."""

import errno
import inspect
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memprot import PAGE_SIZE, Prot, ProtectionError, _native, calls, mprotect, pkey_mprotect
from memprot.request import describe

FUNCTIONS = {name: getattr(calls, name) for name in calls.__all__ if not isinstance(getattr(calls, name), type)}


def test_the_calls_at_the_top_are_the_very_functions_of_the_binding() -> None:
    assert mprotect is calls.mprotect is _native.mprotect
    assert pkey_mprotect is calls.pkey_mprotect is _native.pkey_mprotect


def test_nothing_is_lost_between_the_binding_and_the_module() -> None:
    for name, function in FUNCTIONS.items():
        ours, bound = (inspect.signature(f).parameters.values() for f in (function, getattr(_native, name)))
        assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in bound]
    assert str(inspect.signature(calls.mmap)) == "(addr, length, prot, flags, fd=-1, offset=0)"


def test_negative_numbers_are_twos_complement() -> None:
    with pytest.raises(ProtectionError) as negative:
        calls.munmap(-PAGE_SIZE, PAGE_SIZE)
    with pytest.raises(ProtectionError) as unsigned:
        calls.munmap(2**64 - PAGE_SIZE, PAGE_SIZE)
    assert negative.value.errno == unsigned.value.errno == errno.EINVAL


PARAMETERS: dict[str, dict[str, Any]] = {
    "mprotect": {"addr": 0, "length": 0, "prot": 0},
    "pkey_mprotect": {"addr": 0, "length": 0, "prot": 0, "pkey": -1},
    "pkey_alloc": {"flags": 1, "rights": 0},
    "pkey_free": {"key": -1},
    "pkey_get": {"key": 16},
    "pkey_set": {"key": 16, "rights": 0},
    "mseal": {"addr": 0, "length": 0, "flags": 0},
    "mremap": {"addr": 1, "old": 0, "new": 0, "flags": 0},
    "mlock": {"addr": 0, "length": 0},
    "mlock2": {"addr": 0, "length": 0, "flags": 0},
    "munlock": {"addr": 0, "length": 0},
    "mlockall": {"flags": 0},
    "munlockall": {},
    "brk": {"addr": 0},
    "sbrk": {"n": 0},
    "mincore": {"addr": 0, "length": 0},
    "msync": {"addr": 0, "length": 0, "flags": 0},
    "process_madvise": {"pidfd": -1, "advice": 0, "flags": 0},
    "memfd_secret": {"flags": 1},
    "mbind": {"addr": 0, "length": 0, "mode": 99, "flags": 0},
    "set_mempolicy": {"mode": 99},
    "get_mempolicy": {"addr": None},
    "move_pages": {"pid": -1, "flags": 0},
    "set_name": {"addr": 1, "length": 0},
    "personality": {"persona": 0xFFFFFFFF},
    "set_mdwe": {"bits": 1 << 40},
    "get_mdwe": {},
    "shm_open": {"flags": 0, "mode": 0},
    "shm_unlink": {},
    "mmap": {"addr": 0, "length": 0, "prot": 0, "flags": 0, "fd": -1, "offset": 0},
    "munmap": {"addr": 0, "length": 0},
    "madvise": {"addr": 0, "length": 0, "advice": 0},
    "memfd_create": {"flags": 0},
}
CASES = [(name, parameter) for name, parameters in PARAMETERS.items() for parameter in parameters]
# What the parameters of another kind get meanwhile.
OTHERS: dict[str, dict[str, Any]] = {
    "memfd_create": {"name": "x"},
    "shm_open": {"name": "x"},
    "set_name": {"name": "x"},
    "process_madvise": {"ranges": ()},
    "mbind": {"nodes": ()},
    "move_pages": {"pages": ()},
}


def test_every_call_is_in_the_tables() -> None:
    assert PARAMETERS.keys() == FUNCTIONS.keys()


@pytest.mark.parametrize(("name", "parameter"), CASES)
@pytest.mark.parametrize("value", [True, False, 1.0, (), "r-x", b"1", None])
def test_what_is_no_int_is_a_type_error_naming_the_parameter(name: str, parameter: str, value: object) -> None:
    if value is None and PARAMETERS[name][parameter] is None:
        value = [None]
    arguments = OTHERS.get(name, {})
    with pytest.raises(TypeError, match=rf"{name}\(\) argument '{parameter}' .* {type(value).__name__}"):
        getattr(calls, name)(**arguments, **(PARAMETERS[name] | {parameter: value}))


@pytest.mark.parametrize(("name", "parameter"), CASES)
@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 1 << 20000], ids=["above", "below", "far"])
def test_what_does_not_fit_64_bits_is_an_overflow_naming_the_parameter(name: str, parameter: str, value: int) -> None:
    arguments = OTHERS.get(name, {})
    with pytest.raises(OverflowError, match=f"'{parameter}'"):
        getattr(calls, name)(**arguments, **(PARAMETERS[name] | {parameter: value}))


def test_an_object_that_only_counts_as_an_index_is_refused() -> None:
    class Index:
        def __index__(self) -> int:
            return 0

    with pytest.raises(TypeError, match="Index"):
        calls.munmap(Index(), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("positional", "named", "word"),
    [
        ((), {}, "addr"),
        ((1, 2), {}, "prot"),
        ((1, 2, 3, 4), {}, "at most 3"),
        ((1, 2, 3), {"prot": 3}, "prot"),
        ((1, 2), {"port": 3}, "port"),
    ],
)
def test_wrong_argument_lists_are_type_errors(positional: tuple[int, ...], named: dict[str, int], word: str) -> None:
    with pytest.raises(TypeError, match=word):
        calls.mprotect(*positional, **named)


def test_arguments_may_be_named(pages: int) -> None:
    calls.mprotect(prot=Prot.READ, addr=pages, length=PAGE_SIZE)
    with pytest.raises(ProtectionError) as caught:
        calls.mprotect(prot=Prot.READ, addr=pages + 1, length=PAGE_SIZE)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("call", [calls.memfd_create, lambda name: calls.shm_open(name, 0), calls.shm_unlink])
@pytest.mark.parametrize(
    ("name", "exception"), [("a\0b", ValueError), (b"\0", ValueError), (1, TypeError), (None, TypeError)]
)
def test_names_that_cannot_be_are_refused(call: Callable[[Any], object], name: Any, exception: type[Exception]) -> None:
    with pytest.raises(exception):
        call(name)


@pytest.mark.parametrize(
    ("call", "wrong", "parameter"),
    [
        (lambda items: calls.move_pages(0, items), 1, "pages"),
        (lambda items: calls.move_pages(0, [], items), 1.0, "nodes"),
        (lambda items: calls.move_pages(0, items), [0, 1.0], "pages[1]"),
        (lambda items: calls.move_pages(0, [0], items), [True], "nodes[0]"),
        (lambda items: calls.mbind(0, 0, 0, items), None, "nodes"),
        (lambda items: calls.set_mempolicy(2, items), "0", "nodes[0]"),
        (lambda items: calls.process_madvise(-1, items, 4), None, "ranges"),
        (lambda items: calls.process_madvise(-1, items, 4), [0], "ranges[0]"),
        (lambda items: calls.process_madvise(-1, items, 4), [(0, 1), (0, 1, 2)], "ranges[1]"),
        (lambda items: calls.process_madvise(-1, items, 4), [(0, 1.0)], "ranges[0]"),
    ],
)
def test_items_of_another_type_are_named_with_their_index(
    call: Callable[[Any], object], wrong: object, parameter: str
) -> None:
    with pytest.raises(TypeError) as caught:
        call(wrong)
    assert f"'{parameter}'" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: calls.mbind(0, 0, 2, [32768]), "32768"),
        (lambda: calls.set_mempolicy(2, {-1}), "-1"),
        (lambda: calls.move_pages(0, [0], [1 << 40]), str(1 << 40)),
        (lambda: calls.move_pages(0, [0, 0], [0]), "as many nodes as pages: 2, not 1"),
        (lambda: calls.process_madvise(-1, [(8192, 4096)], 4), "stops at 0x1000, before its start 0x2000"),
    ],
)
def test_items_that_cannot_be_are_value_errors(call: Callable[[], object], word: str) -> None:
    with pytest.raises(ValueError, match=re.escape(word)):
        call()


def test_an_iterable_that_fails_fails_with_its_own_error() -> None:
    def interrupted() -> Iterator[int]:
        yield 0
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        calls.set_mempolicy(2, interrupted())


def test_what_was_iterated_over_is_in_the_error_and_the_error_can_be_pickled() -> None:
    with pytest.raises(ProtectionError) as caught:
        calls.set_mempolicy(99, (node for node in (0, 3)))
    assert "nodes 0, 3" in str(pickle.loads(pickle.dumps(caught.value)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_call_is_described_by_its_arguments(name: str) -> None:
    given = {**OTHERS.get(name, {}), **PARAMETERS[name]}
    signature = inspect.signature(FUNCTIONS[name])
    arguments = tuple(given.get(parameter, default.default) for parameter, default in signature.parameters.items())
    sentence = describe(name, arguments)
    assert "\n" not in sentence
    assert sentence.startswith(name)
    assert not arguments or sentence != name
