// Where memory is.
#include "call.h"

#include "docstrings.h"

#include <sys/mman.h>
#include <sys/syscall.h>

// A file system may ask a program of its own, even one in this process, before it lets its file be mapped.
static bool is_long_mmap(const uint64_t *words) {
    return words[1] > MEMPROT_LONG_RANGE || (words[3] & MAP_ANONYMOUS) == 0 ||
           (words[3] & (MAP_POPULATE | MAP_LOCKED)) != 0;
}

static PyObject *call_mmap(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "mmap",
        .parameters = {"addr", "length", "prot", "flags", "fd", "offset"},
        .required = 4,
        .count = 6,
        .defaults = {[4] = -1},
        .number = SYS_mmap,
        .is_long = is_long_mmap,
    };
    PyObject *gathered[6];
    uint64_t words[MEMPROT_PARAMETERS] = {0};
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(&call, gathered, 0, 6, words) < 0)
        return NULL;
    int error;
    long address = memprot_call_make(&call, words, &error);
    if (address == -1)
        return memprot_call_failed(&call, gathered, error);
    PyObject *result = PyLong_FromLong(address);
    if (result == NULL)
        // Nobody would ever learn where it is. A failure here could only be reported over the MemoryError.
        (void)munmap((void *)address, words[1]);
    return result;
}

MEMPROT_CALL(munmap, memprot_call_none, .parameters = {"addr", "length"}, .required = 2, .count = 2,
             .number = SYS_munmap, .is_long = memprot_is_long_range)

static bool is_long_mremap(const uint64_t *words) {
    return words[1] > MEMPROT_LONG_RANGE || words[2] > MEMPROT_LONG_RANGE;
}

static PyObject *call_mremap(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "mremap",
        .parameters = {"addr", "old", "new", "flags", "new_addr"},
        .required = 3,
        .count = 5,
        .number = SYS_mremap,
        .is_long = is_long_mremap,
    };
    PyObject *gathered[5];
    uint64_t words[MEMPROT_PARAMETERS] = {0};
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0)
        return NULL;
    if (gathered[4] == NULL)
        gathered[4] = Py_None;
    if (memprot_call_words(&call, gathered, 0, gathered[4] == Py_None ? 4 : 5, words) < 0)
        return NULL;
    int error;
    long address = memprot_call_make(&call, words, &error);
    return address == -1 ? memprot_call_failed(&call, gathered, error) : PyLong_FromLong(address);
}

PyMethodDef memprot_mapping_calls[] = {
    MEMPROT_METHOD(mmap),
    MEMPROT_METHOD(munmap),
    MEMPROT_METHOD(mremap),
    {NULL, NULL, 0, NULL},
};
