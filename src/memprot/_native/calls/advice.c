// What the kernel is told about pages, and what it tells.
#include "call.h"

#include "docstrings.h"
#include "kernel_abi.h"
#include "page.h"

#include <sys/uio.h>

// All but advice that only sets a flag or drops pages: that reads, writes, moves or waits.
static bool is_long_madvise(const uint64_t *words) {
    if (words[1] > MEMPROT_LONG_RANGE)
        return true;
    switch (words[2]) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_DONTFORK:
    case MADV_DOFORK:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_WIPEONFORK:
    case MADV_KEEPONFORK:
    case MADV_GUARD_INSTALL:
    case MADV_GUARD_REMOVE:
        return false;
    default:
        return true;
    }
}

MEMPROT_CALL(madvise, memprot_call_none, .parameters = {"addr", "length", "advice"}, .required = 3, .count = 3,
             .number = SYS_madvise, .is_long = is_long_madvise)

// One (start, stop) of process_madvise; -1 with an exception set.
static int take_range(const struct memprot_call *call, Py_ssize_t k, PyObject *item, struct iovec *ret) {
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2) {
        PyErr_Format(PyExc_TypeError, "%s() argument 'ranges[%zd]' must be a pair (start, stop), not %.200s",
                     call->name, k, Py_TYPE(item)->tp_name);
        return -1;
    }
    uint64_t ends[2];
    for (int end = 0; end < 2; end++) {
        if (memprot_call_item(call, 1, k, PyTuple_GET_ITEM(item, end), &ends[end]) < 0)
            return -1;
    }
    if (ends[0] > ends[1]) {
        // The interpreter's own formats have no hexadecimal numbers of 64 bits before Python 3.12.
        char start[24], stop[24];
        PyOS_snprintf(start, sizeof start, "%#llx", (unsigned long long)ends[0]);
        PyOS_snprintf(stop, sizeof stop, "%#llx", (unsigned long long)ends[1]);
        PyErr_Format(PyExc_ValueError, "%s() argument 'ranges[%zd]' stops at %s, before its start %s", call->name, k,
                     stop, start);
        return -1;
    }
    *ret = (struct iovec){(void *)(uintptr_t)ends[0], ends[1] - ends[0]};
    return 0;
}

static PyObject *advise_ranges(const struct memprot_call *call, PyObject *const *gathered, const uint64_t *words) {
    PyObject *ranges = gathered[1];
    Py_ssize_t count = PyTuple_GET_SIZE(ranges);
    struct iovec *vector = PyMem_New(struct iovec, (size_t)count);
    if (vector == NULL)
        return PyErr_NoMemory();
    int status = 0, error;
    for (Py_ssize_t k = 0; k < count && status == 0; k++)
        status = take_range(call, k, PyTuple_GET_ITEM(ranges, k), &vector[k]);
    PyObject *result = NULL;
    if (status == 0) {
        const uint64_t registers[MEMPROT_PARAMETERS] = {words[0], (uintptr_t)vector, (uint64_t)count, words[2],
                                                        words[3]};
        long advised = memprot_call_make(call, registers, &error);
        result = advised == -1 ? memprot_call_failed(call, gathered, error) : PyLong_FromLong(advised);
    }
    PyMem_Free(vector);
    return result;
}

static PyObject *call_process_madvise(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "process_madvise",
        .parameters = {"pidfd", "ranges", "advice", "flags"},
        .required = 3,
        .count = 4,
        .number = SYS_process_madvise,
        .is_long = memprot_always_long,
    };
    PyObject *gathered[4];
    uint64_t words[4];
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(&call, gathered, 0, 1, words) < 0 || memprot_call_words(&call, gathered, 2, 4, words) < 0)
        return NULL;
    gathered[1] = memprot_call_items(&call, 1, gathered[1]);
    if (gathered[1] == NULL)
        return NULL;
    PyObject *result = advise_ranges(&call, gathered, words);
    Py_DECREF(gathered[1]);
    return result;
}

// Asked for at a time, so that a length which is mostly not mapped needs no memory for its answer.
enum { MINCORE_PAGES = 1 << 16 };

static PyObject *call_mincore(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "mincore",
        .parameters = {"addr", "length"},
        .required = 2,
        .count = 2,
        .number = SYS_mincore,
        .is_long = memprot_is_long_range,
    };
    PyObject *gathered[2];
    uint64_t words[MEMPROT_PARAMETERS] = {0};
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(&call, gathered, 0, 2, words) < 0)
        return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, 0);
    const uint64_t step = MINCORE_PAGES * memprot_page_size();
    uint64_t left = words[1];
    do {
        words[1] = left < step ? left : step;
        Py_ssize_t known = result == NULL ? 0 : PyBytes_GET_SIZE(result);
        if (result == NULL || _PyBytes_Resize(&result, known + (Py_ssize_t)memprot_page_count(words[1])) < 0)
            return NULL;
        words[2] = (uintptr_t)PyBytes_AS_STRING(result) + (uintptr_t)known;
        int error;
        if (memprot_call_make(&call, words, &error) == -1) {
            Py_DECREF(result);
            return memprot_call_failed(&call, gathered, error);
        }
        words[0] += words[1];
        left -= words[1];
    } while (left > 0);
    return result;
}

MEMPROT_CALL(msync, memprot_call_none, .parameters = {"addr", "length", "flags"}, .required = 3, .count = 3,
             .number = SYS_msync, .is_long = memprot_always_long)

PyMethodDef memprot_advice_calls[] = {
    MEMPROT_METHOD(madvise), MEMPROT_METHOD(process_madvise), MEMPROT_METHOD(mincore),
    MEMPROT_METHOD(msync),   {NULL, NULL, 0, NULL},
};
