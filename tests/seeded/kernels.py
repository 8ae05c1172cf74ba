"""Bugs in loops that numba has compiled."""

from typing import Any

import numpy

from tests.seeded.bug import seeded


@seeded("kernels.py", "overflow", "read", distance=0, size=8)
def edge_of_a_convolution(code: Any) -> None:
    """A convolution takes n + 1 steps."""
    signal = numpy.ones(1000)  # allocated
    code.convolve(signal, numpy.ones(5), numpy.empty(996))  # fault


@seeded("kernels.py", "overflow", "read", distance=0, size=8)
def result_too_short(code: Any) -> None:
    """A full convolution into an array as long as the signal."""
    out = numpy.zeros(1000)  # allocated
    code.full_convolve(numpy.ones(1000), numpy.ones(5), out)  # fault


@seeded("kernels.py", "overflow", "read", distance=24, size=8)
def gather_with_a_bad_index(code: Any) -> None:
    """One of the indices is three too large."""
    table = numpy.ones(1000)  # allocated
    code.gather(table, numpy.array([5, 999, 1003]), numpy.empty(3))  # fault


@seeded("kernels.py", "overflow", "write", distance=0)
def rows_for_columns(code: Any) -> None:
    """Rows and columns are exchanged in two loops."""
    image = numpy.zeros((30, 50))  # allocated
    code.mark_rows(image)  # fault


# The machine code writes vectors, and not in order.
@seeded("kernels.py", "overflow", "write", distance=range(4096))
def scratch_of_half_the_size(code: Any) -> None:
    """An FFT in place uses twice its scratch memory."""
    scratch = numpy.empty(512, complex)  # allocated
    code.split_for_fft(numpy.ones(1024, complex), scratch)  # fault


@seeded("kernels.py", "overflow", "write", distance=0)
def padding_that_is_not_there(code: Any) -> None:
    """Rows without padding are taken for ones with padding."""
    pixels = numpy.zeros(20 * 30, "u1")  # allocated
    code.blacken(pixels, 30, 20)  # fault


@seeded("kernels.py", "overflow", "read", distance=0, size=8)
def last_block_of_a_matrix(code: Any) -> None:
    """The last block of a matrix product is as large as the others."""
    b = numpy.ones((10, 10))  # allocated
    code.multiply_in_blocks(numpy.ones((10, 10)), b, numpy.zeros((10, 10)), 4)  # fault


@seeded("kernels.py", "overflow", "write", distance=128, size=1)
def off_by_one_page(code: Any) -> None:
    """Pages are counted from 1."""
    memory = numpy.zeros(3 * 4096, "u1")  # allocated
    code.number_pages(memory, 128)  # fault
