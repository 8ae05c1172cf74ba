"""At which page it fails to bring memory in."""

import errno
from typing import TYPE_CHECKING

import memprot._native as _native
from memprot.diagnosis.place import named
from memprot.diagnosis.refusal import Refusal
from memprot.flags import Advice
from memprot.prot import PAGE_SIZE, Prot
from memprot.reason import Reason

if TYPE_CHECKING:
    from memprot._native import Mapping

__all__ = ["unpopulated"]


def unpopulated(number: int, mapping: "Mapping", start: int, stop: int) -> Refusal | None:
    """The first page of a part of a mapping of ours that cannot be brought into memory, or None.

    It is found by bringing in those before it, which whoever asks has done already.

    :param number: the errno of the call that failed.
    :param start: a multiple of the page size, as is ``stop``.

    Source: faultin_page_range in mm/gup.c; mincore(2).

    >>> import errno
    >>> from memprot import AddressSpace
    >>> from memprot.diagnosis.populating import unpopulated
    >>> program = next(iter(AddressSpace()))
    >>> unpopulated(errno.EFAULT, program, program.start, program.stop)
    """
    if mapping.prot & (Prot.READ | Prot.WRITE):
        page = _first_that_fails(
            start, stop, Advice.POPULATE_READ if mapping.prot & Prot.READ else Advice.POPULATE_WRITE
        )
    else:
        page = _first_absent(start, stop)  # no advice is for memory that can only be executed
    if page is None:
        return None
    said = f"the page {page:#x} of {named(mapping)} is a guard page, or lies beyond the end of the file"
    return Refusal(number, Reason.BAD_ARGUMENT, said, "leave it out", page, page + PAGE_SIZE, mapping)


def _first_that_fails(start: int, stop: int, advice: Advice) -> int | None:
    if _comes_in(start, stop, advice):
        return None
    while stop - start > PAGE_SIZE:
        middle = start + (stop - start) // PAGE_SIZE // 2 * PAGE_SIZE
        if _comes_in(start, middle, advice):
            start = middle
        else:
            stop = middle
    return start


def _first_absent(start: int, stop: int) -> int | None:
    pages = enumerate(_native.mincore(start, stop - start))
    return next((start + number * PAGE_SIZE for number, present in pages if not present & 1), None)


def _comes_in(start: int, stop: int, advice: Advice) -> bool:
    try:
        _native.madvise(start, stop - start, advice)
    except OSError as error:
        # Kernels before Linux 5.14 do not have the advice.
        return error.errno != errno.EFAULT
    return True
