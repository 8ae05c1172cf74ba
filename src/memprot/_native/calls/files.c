// Files that live in memory.
#include "call.h"

#include "docstrings.h"
#include "kernel_abi.h"
#include "shared_memory.h"

#include <errno.h>
#include <linux/memfd.h>

static PyObject *call_memfd_create(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "memfd_create",
        .parameters = {"name", "flags"},
        .required = 1,
        .count = 2,
        .defaults = {[1] = MFD_CLOEXEC},
        .number = SYS_memfd_create,
    };
    PyObject *gathered[2];
    uint64_t words[MEMPROT_PARAMETERS] = {0};
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(&call, gathered, 1, 2, words) < 0)
        return NULL;
    PyObject *name = memprot_call_name(&call, 0, gathered[0]);
    if (name == NULL)
        return NULL;
    words[0] = (uintptr_t)PyBytes_AS_STRING(name);
    int error;
    long fd = memprot_call_make(&call, words, &error);
    Py_DECREF(name);
    return fd == -1 ? memprot_call_failed(&call, gathered, error) : PyLong_FromLong(fd);
}

MEMPROT_CALL(memfd_secret, memprot_call_int, .parameters = {"flags"}, .count = 1, .number = SYS_memfd_secret)

static PyObject *call_shm_open(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "shm_open",
        .parameters = {"name", "flags", "mode"},
        .required = 2,
        .count = 3,
        .defaults = {[2] = 0600},
    };
    PyObject *gathered[3];
    uint64_t words[MEMPROT_PARAMETERS] = {0};
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(&call, gathered, 1, 3, words) < 0)
        return NULL;
    PyObject *name = memprot_call_name(&call, 0, gathered[0]);
    if (name == NULL)
        return NULL;
    int fd, error;
    Py_BEGIN_ALLOW_THREADS;
    fd = memprot_shm_open(PyBytes_AS_STRING(name), words[1], words[2]);
    error = errno;
    Py_END_ALLOW_THREADS;
    Py_DECREF(name);
    return fd < 0 ? memprot_call_failed(&call, gathered, error) : PyLong_FromLong(fd);
}

static PyObject *call_shm_unlink(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {.name = "shm_unlink", .parameters = {"name"}, .required = 1, .count = 1};
    PyObject *gathered[1];
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0)
        return NULL;
    PyObject *name = memprot_call_name(&call, 0, gathered[0]);
    if (name == NULL)
        return NULL;
    int status, error;
    Py_BEGIN_ALLOW_THREADS;
    status = memprot_shm_unlink(PyBytes_AS_STRING(name));
    error = errno;
    Py_END_ALLOW_THREADS;
    Py_DECREF(name);
    if (status < 0)
        return memprot_call_failed(&call, gathered, error);
    Py_RETURN_NONE;
}

PyMethodDef memprot_file_calls[] = {
    MEMPROT_METHOD(memfd_create), MEMPROT_METHOD(memfd_secret), MEMPROT_METHOD(shm_open),
    MEMPROT_METHOD(shm_unlink),   {NULL, NULL, 0, NULL},
};
