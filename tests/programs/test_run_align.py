"""``--align``: for programs that count on malloc's alignment, at the price of a few unguarded bytes."""

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

ADDRESSES = """
import numpy
arrays = [numpy.zeros(length, "u1") for length in (1, 2, 13, 34, 66, 1000, 4096, 5001)]
print([array.ctypes.data % 16 for array in arrays])
print([(array.ctypes.data + array.nbytes) % 4096 for array in arrays])
"""


def numbers(runner: "Runner", *options: str) -> list[list[int]]:
    done = runner.run((sys.executable, "-m", "memprot", "run", "--quiet", *options, "-c", ADDRESSES))
    assert (done.status, done.stderr) == (0, b"")
    return [[int(number) for number in line.strip(b"[]").split(b",")] for line in done.stdout.splitlines()]


def test_by_default_every_array_ends_at_its_guard_to_the_byte(runner: "Runner") -> None:
    _, ends = numbers(runner)
    assert set(ends) == {0}


def test_aligned_arrays_end_at_most_that_far_before_their_guard(runner: "Runner") -> None:
    starts, ends = numbers(runner, "--align", "16")
    assert set(starts) == {0}
    assert all(-end % 4096 < 16 for end in ends)


@pytest.mark.parametrize("number", ["0", "3", "-4", "8192000", "x", "1.5"])
def test_only_powers_of_two_up_to_a_page_are_taken(runner: "Runner", number: str) -> None:
    done = runner.run((sys.executable, "-m", "memprot", "run", "--align", number, "-c", "print(1)"))
    assert (done.status, done.stdout) == (2, b"")
    assert b"--align" in done.stderr
