"""Amounts of memory as people write them."""

import os

import pytest

from memprot.size import parse_part_of_memory, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("123", 123),
        ("123B", 123),
        ("64MiB", 64 << 20),
        ("64 mib", 64 << 20),
        ("64M", 64 << 20),
        ("1GiB", 1 << 30),
        ("2KiB", 2 << 10),
        ("3TiB", 3 << 40),
        (77, 77),
    ],
)
def test_a_size_is_a_number_with_a_unit(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "-1MiB", "1.5GiB", "64MB", "64 XiB", "1MiBMiB", "0x10", "1e6", "١", "1BB"]
)
def test_what_says_no_size_is_named_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount of memory; write") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


def test_other_types_and_negative_numbers_are_refused() -> None:
    for wrong in (1.5, True, None, b"1"):
        with pytest.raises(TypeError, match="an amount of memory is an int or a str"):
            parse_size(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot be negative, as -5 is"):
        parse_size(-5)


def test_more_than_the_machine_has_is_refused() -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert parse_part_of_memory(memory) == memory
    with pytest.raises(ValueError, match="more than this machine's memory"):
        parse_part_of_memory(memory + 1)
    with pytest.raises(ValueError, match="4096TiB is more than this machine's memory"):
        parse_part_of_memory("4096TiB")
