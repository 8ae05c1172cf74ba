// What may be done with pages.
#include "call.h"

#include "calls.h"
#include "docstrings.h"
#include "kernel_abi.h"

static PyObject *call_mprotect(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "mprotect", .parameters = {"addr", "length", "prot"}, .required = 3, .count = 3};
    PyObject *gathered[3];
    uint64_t words[3];
    if (positional != 3 || keywords != NULL) {
        if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0)
            return NULL;
        arguments = gathered;
    }
    if (memprot_call_words(&call, arguments, 0, 3, words) < 0)
        return NULL;
    int status, error = 0;
    if (words[1] <= MEMPROT_LONG_RANGE) {
        status = memprot_mprotect(words[0], words[1], words[2]);
        if (status < 0)
            error = errno;
    } else {
        Py_BEGIN_ALLOW_THREADS;
        status = memprot_mprotect(words[0], words[1], words[2]);
        error = errno;
        Py_END_ALLOW_THREADS;
    }
    if (status < 0)
        return memprot_call_failed(&call, arguments, error);
    Py_RETURN_NONE;
}

MEMPROT_CALL(pkey_mprotect, memprot_call_none, .parameters = {"addr", "length", "prot", "pkey"}, .required = 4,
             .count = 4, .number = SYS_pkey_mprotect, .is_long = memprot_is_long_range)

MEMPROT_CALL(mseal, memprot_call_none, .parameters = {"addr", "length", "flags"}, .required = 2, .count = 3,
             .number = SYS_mseal, .is_long = memprot_is_long_range)

PyMethodDef memprot_protection_calls[] = {
    MEMPROT_METHOD(mprotect),
    MEMPROT_METHOD(pkey_mprotect),
    MEMPROT_METHOD(mseal),
    {NULL, NULL, 0, NULL},
};
