// Protection keys.
#include "call.h"

#include "docstrings.h"
#include "key_rights.h"

#include <errno.h>
#include <sys/syscall.h>

MEMPROT_CALL(pkey_alloc, memprot_call_int, .parameters = {"flags", "rights"}, .count = 2, .number = SYS_pkey_alloc)

MEMPROT_CALL(pkey_free, memprot_call_none, .parameters = {"key"}, .required = 1, .count = 1, .number = SYS_pkey_free)

static PyObject *call_pkey_get(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {.name = "pkey_get", .parameters = {"key"}, .required = 1, .count = 1};
    PyObject *gathered[1];
    uint64_t key;
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(&call, gathered, 0, 1, &key) < 0)
        return NULL;
    int rights = memprot_pkey_get(key);
    return rights < 0 ? memprot_call_failed(&call, gathered, errno) : PyLong_FromLong(rights);
}

static PyObject *call_pkey_set(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "pkey_set", .parameters = {"key", "rights"}, .required = 2, .count = 2};
    PyObject *gathered[2];
    uint64_t words[MEMPROT_PARAMETERS] = {0};
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(&call, gathered, 0, 2, words) < 0)
        return NULL;
    if (memprot_pkey_set(words[0], words[1]) < 0)
        return memprot_call_failed(&call, gathered, errno);
    Py_RETURN_NONE;
}

PyMethodDef memprot_key_calls[] = {
    MEMPROT_METHOD(pkey_alloc), MEMPROT_METHOD(pkey_free), MEMPROT_METHOD(pkey_get),
    MEMPROT_METHOD(pkey_set),   {NULL, NULL, 0, NULL},
};
