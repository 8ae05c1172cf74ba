"""The kernel's side of the comparison tells what happened, and outlives it."""

import errno
import signal

import pytest

from memprot import PAGE_SIZE
from tests.kernel.differential.arena import ArenaDeathError
from tests.kernel.differential.kernel_side import KernelSide, Outcome, kernel_side
from tests.kernel.differential.operations import WORLDS, Operation, World, at

ANONYMOUS_FIXED = 0x32
SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR = 1, 2, 2
PLAIN = WORLDS[0]


def outcomes(kernel: KernelSide, *operations: Operation, world: World = PLAIN) -> list[tuple[Outcome, str]]:
    kernel.begin(world)
    try:
        return kernel.perform(list(operations), world)
    finally:
        kernel.end()


def test_an_access_gives_the_signal_that_it_would_have_died_of(kernel: KernelSide) -> None:
    results = outcomes(
        kernel,
        Operation("mmap", (at(0), PAGE_SIZE, 1, ANONYMOUS_FIXED, -1, 0)),
        Operation("mmap", (at(1), PAGE_SIZE, 3, 0x11, "writable", 0)),
        Operation("truncate", ("writable", 0)),
        Operation("access", (at(0), "read", 0)),
        Operation("access", (at(0), "write", 0)),
        Operation("access", (at(0), "execute", 0)),
        Operation("access", (at(1), "read", 0)),
        Operation("access", (at(2), "read", 0)),
    )
    assert [result.touches for result, maps in results[3:]] == [
        ((0, 0, 0),),
        ((signal.SIGSEGV, SEGV_ACCERR, 0),),
        ((signal.SIGSEGV, SEGV_ACCERR, 0),),
        ((signal.SIGBUS, BUS_ADRERR, 0),),
        ((signal.SIGSEGV, SEGV_MAPERR, 0),),
    ]


@pytest.mark.parametrize("written", [False, True])
def test_what_is_executed_is_one_instruction(kernel: KernelSide, written: bool) -> None:
    results = outcomes(
        kernel,
        Operation("mmap", (at(0), 2 * PAGE_SIZE, 7, ANONYMOUS_FIXED, -1, 0)),
        *[Operation("access", (at(0), "write", 0))] * written,
        Operation("access", (at(0), "execute", 0)),
        Operation("access", (at(2), "execute", 0)),
    )
    assert [result.touches for result, maps in results[-2:]] == [((0, 0, 0),), ((signal.SIGSEGV, SEGV_MAPERR, 0),)]


def test_the_lines_of_the_arena_come_with_each_outcome(kernel: KernelSide) -> None:
    results = outcomes(
        kernel,
        Operation("mmap", (at(3), PAGE_SIZE, 3, ANONYMOUS_FIXED, -1, 0)),
        Operation("mprotect", (at(3), PAGE_SIZE, 1 << 32 | 5)),
        Operation("munmap", (at(3), PAGE_SIZE)),
    )
    assert results == [
        (Outcome(0, at(3)), "100003000-100004000 rw-p 00000000 00:00 0 \n"),
        (Outcome(errno.EINVAL), "100003000-100004000 rw-p 00000000 00:00 0 \n"),
        (Outcome(0), ""),
    ]


def test_what_the_kernel_places_elsewhere_is_gone_again(kernel: KernelSide) -> None:
    """The second hint is not free."""
    hint = Operation("mmap", (at(3), PAGE_SIZE, 3, 0x22, -1, 0))
    (first, _), (second, maps) = outcomes(kernel, hint, hint)
    assert first.result == at(3)
    assert second.result not in range(at(0), at(PLAIN.pages))
    assert maps.count("\n") == 1


def test_each_sequence_has_a_process_of_its_own(kernel: KernelSide) -> None:
    mapping = Operation("mmap", (at(0), PAGE_SIZE, 3, ANONYMOUS_FIXED, -1, 0))
    assert outcomes(kernel, mapping)[0][0] == Outcome(0, at(0))
    assert outcomes(kernel, Operation("access", (at(0), "read", 0)))[0][0].touches[0][1] == SEGV_MAPERR


def test_a_death_of_the_process_is_told() -> None:
    with kernel_side() as kernel:
        everything = Operation("munmap", (0, 0x7FFF_FFFF_F000))
        with pytest.raises(ArenaDeathError):
            outcomes(kernel, everything)
