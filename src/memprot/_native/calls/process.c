// What the kernel remembers of the whole process.
#include "call.h"

#include "docstrings.h"
#include "kernel_abi.h"

// prctl(2) as a function of its option's one argument.
static long option(const struct memprot_call *call, PyObject *const *gathered, unsigned long name, uint64_t argument) {
    const uint64_t words[MEMPROT_PARAMETERS] = {name, argument};
    int error;
    long result = memprot_call_make(call, words, &error);
    if (result == -1)
        memprot_call_failed(call, gathered, error);
    return result;
}

static PyObject *call_set_mdwe(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "set_mdwe", .parameters = {"bits"}, .required = 1, .count = 1, .number = SYS_prctl};
    PyObject *gathered[1];
    uint64_t bits;
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(&call, gathered, 0, 1, &bits) < 0)
        return NULL;
    if (option(&call, gathered, PR_SET_MDWE, bits) == -1)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *call_get_mdwe(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {.name = "get_mdwe", .number = SYS_prctl};
    PyObject *gathered[1];
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0)
        return NULL;
    long bits = option(&call, gathered, PR_GET_MDWE, 0);
    return bits == -1 ? NULL : PyLong_FromLong(bits);
}

static bool is_long_set_name(const uint64_t *words) { return words[3] > MEMPROT_LONG_RANGE; }

static PyObject *call_set_name(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "set_name",
        .parameters = {"addr", "length", "name"},
        .required = 3,
        .count = 3,
        .number = SYS_prctl,
        .is_long = is_long_set_name,
    };
    PyObject *gathered[3];
    uint64_t words[MEMPROT_PARAMETERS] = {0};
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(&call, gathered, 0, 2, words) < 0)
        return NULL;
    PyObject *name = gathered[2] == Py_None ? Py_NewRef(Py_None) : memprot_call_name(&call, 2, gathered[2]);
    if (name == NULL)
        return NULL;
    const uint64_t registers[MEMPROT_PARAMETERS] = {PR_SET_VMA, PR_SET_VMA_ANON_NAME, words[0], words[1],
                                                    name == Py_None ? 0 : (uintptr_t)PyBytes_AS_STRING(name)};
    int error;
    long status = memprot_call_make(&call, registers, &error);
    Py_DECREF(name);
    if (status == -1)
        return memprot_call_failed(&call, gathered, error);
    Py_RETURN_NONE;
}

MEMPROT_CALL(personality, memprot_call_int, .parameters = {"persona"}, .count = 1, .defaults = {0xffffffff},
             .number = SYS_personality)

PyMethodDef memprot_process_calls[] = {
    MEMPROT_METHOD(set_mdwe),    MEMPROT_METHOD(get_mdwe), MEMPROT_METHOD(set_name),
    MEMPROT_METHOD(personality), {NULL, NULL, 0, NULL},
};
