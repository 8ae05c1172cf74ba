// The program break: where the heap of the C library's malloc ends.
#include "call.h"

#include "docstrings.h"
#include "program_break.h"

#include <errno.h>

static PyObject *call_brk(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {.name = "brk", .parameters = {"addr"}, .count = 1};
    PyObject *gathered[1];
    uint64_t address;
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(&call, gathered, 0, 1, &address) < 0)
        return NULL;
    uintptr_t now = memprot_brk(address);
    return now == UINTPTR_MAX ? memprot_call_failed(&call, gathered, errno) : PyLong_FromUnsignedLong(now);
}

static PyObject *call_sbrk(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {.name = "sbrk", .parameters = {"n"}, .required = 1, .count = 1};
    PyObject *gathered[1];
    uint64_t bytes;
    int negative;
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_as_number(call.name, call.parameters[0], gathered[0], &negative, &bytes) < 0)
        return NULL;
    uintptr_t before = negative ? memprot_break_lower(-bytes) : memprot_break_raise(bytes);
    return before == UINTPTR_MAX ? memprot_call_failed(&call, gathered, errno) : PyLong_FromUnsignedLong(before);
}

PyMethodDef memprot_break_calls[] = {
    MEMPROT_METHOD(brk),
    MEMPROT_METHOD(sbrk),
    {NULL, NULL, 0, NULL},
};
