# cython: language_level=3, boundscheck=False, wraparound=False
"""Loops over typed memoryviews, and memory of Python's allocators."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_RawFree, PyMem_RawMalloc
from cython.parallel cimport prange


cdef extern from "seeded.h" nogil:
    long SEEDED(long right, long wrong)


def cumulate(double[::1] a):
    cdef Py_ssize_t i
    for i in range(SEEDED(len(a) - 1, len(a))):
        a[i + 1] += 1


def last(double[::1] a):
    return a[SEEDED(len(a) - 1, -1)]


# One number of each row; a pointer to double counts in elements already.
def first_column(double[:, ::1] a):
    cdef double *row = &a[0, 0]
    cdef Py_ssize_t i
    cdef double total = 0
    for i in range(a.shape[0]):
        total += row[i * SEEDED(a.shape[1], a.strides[0])]
    return total


def fill(double[::1] a):
    cdef Py_ssize_t i
    for i in range(SEEDED(len(a), len(a) + 1)):
        a[i] = i


cdef struct Node:
    long key
    long value
    Node *next


def make_node():
    cdef Node *node
    with nogil:
        node = <Node *>PyMem_RawMalloc(SEEDED(sizeof(Node), sizeof(node)))
        node.next = NULL
        PyMem_RawFree(node)


def median(Py_ssize_t n):
    cdef double *scratch = <double *>PyMem_Malloc(n * sizeof(double))
    cdef Py_ssize_t i
    for i in range(n):
        scratch[i] = i
    cdef double result = scratch[n // 2]
    PyMem_Free(scratch)
    if SEEDED(0, 1):
        result = scratch[n // 2]
    return result


# The callback may change the array.
def visit(double[::1] a, callback):
    cdef Py_ssize_t i
    cdef double total = 0
    for i in range(len(a)):
        if SEEDED(0, i == 10):
            callback()
        total += a[i]
    callback()
    return total


def scale_in_threads(double[::1] a, double factor):
    cdef Py_ssize_t i
    cdef Py_ssize_t n = SEEDED(len(a), len(a) + 1)
    for i in prange(n, nogil=True, num_threads=2, schedule="static"):
        a[i] = factor
