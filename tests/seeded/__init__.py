"""Forty small functions in C, C++, Cython and numba, each with one bug and what must be said of it."""

from tests.seeded import arrays, buffers, heap, kernels, views
from tests.seeded.bug import BUGS, Bug

__all__ = ["BUGS", "Bug", "arrays", "buffers", "heap", "kernels", "views"]
