// Reading and writing at any address whatsoever: how far it went is the answer, never a signal.
#include "binding.h"

#include "docstrings.h"
#include "engine.h"

#include "access.h"
#include "kernel_copy.h"
#include "own_maps.h"

#include <errno.h>
#include <sys/mman.h>

enum { LONG_READ = 1 << 20 }; // bytes, from which memory is asked for only as far as there is any

static int as_address(const char *function, PyObject *argument, uintptr_t *ret) {
    int negative;
    uint64_t address;
    if (memprot_as_number(function, "address", argument, &negative, &address) < 0)
        return -1;
    if (negative) {
        PyErr_Format(PyExc_ValueError, "%s() argument 'address' must not be negative, and it is %R", function,
                     argument);
        return -1;
    }
    *ret = address;
    return 0;
}

// Where the kernel refuses such calls (a sandbox), our own accessors do it, and the handlers they need are ours.
static size_t copy_by_accessor(void *to, const void *from, size_t length) {
    if (memprot_engine_acquire() < 0) {
        PyErr_Clear();
        return 0;
    }
    size_t left = memprot_access_copy(to, from, length);
    memprot_engine_release();
    return length - left;
}

// At most so many bytes from an address on can be read: nothing is mapped behind them, or what permits nothing.
static size_t bound(uintptr_t address, size_t size) {
    struct memprot_mapping found = {.start = address, .stop = address};
    uintptr_t reached = address, stop = size < UINTPTR_MAX - address ? address + size : UINTPTR_MAX;
    while (reached < stop && memprot_own_maps_next(reached, &found) == 1 && found.start <= reached &&
           found.prot != PROT_NONE)
        reached = found.stop;
    return reached < stop ? reached - address : stop - address;
}

// peek(address, size) -> bytes: those that can be read, up to the first that cannot
static PyObject *peek(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    uintptr_t address;
    uint64_t size;
    int negative;
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "peek() takes 2 arguments (%zd given)", count);
    if (as_address("peek", args[0], &address) < 0 || memprot_as_number("peek", "size", args[1], &negative, &size) < 0)
        return NULL;
    if (negative)
        return PyErr_Format(PyExc_ValueError, "peek() argument 'size' must not be negative, and it is %R", args[1]);
    if (size >= LONG_READ)
        size = bound(address, size);
    PyObject *bytes = size > PY_SSIZE_T_MAX ? NULL : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!bytes) {
        PyErr_Format(PyExc_MemoryError, "there is no memory for a copy of %llu bytes; read them in parts",
                     (unsigned long long)size);
        return NULL;
    }
    size_t done;
    int failed, error;
    char *to = PyBytes_AS_STRING(bytes);
    Py_BEGIN_ALLOW_THREADS;
    failed = memprot_kernel_read(to, address, size, &done);
    error = errno;
    Py_END_ALLOW_THREADS;
    if (failed && error != EFAULT)
        done += copy_by_accessor(to + done, (void *)(address + done), size - done);
    if (done < size)
        _PyBytes_Resize(&bytes, (Py_ssize_t)done);
    return bytes;
}

// poke(address, data) -> (how many bytes were written, whether data itself could not be read further)
static PyObject *poke(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    uintptr_t address;
    Py_buffer data;
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "poke() takes 2 arguments (%zd given)", count);
    if (as_address("poke", args[0], &address) < 0 || PyObject_GetBuffer(args[1], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    size_t done;
    int failed, error;
    bool unreadable;
    Py_BEGIN_ALLOW_THREADS;
    failed = memprot_kernel_write(address, data.buf, (size_t)data.len, &done, &unreadable);
    error = errno;
    Py_END_ALLOW_THREADS;
    if (failed && error != EFAULT) {
        done += copy_by_accessor((void *)(address + done), (char *)data.buf + done, (size_t)data.len - done);
        uintptr_t source = (uintptr_t)data.buf + done;
        unreadable = done < (size_t)data.len && memprot_access_last_failure()->address == source;
    }
    PyBuffer_Release(&data);
    return Py_BuildValue("(nN)", (Py_ssize_t)done, PyBool_FromLong(unreadable));
}

static PyMethodDef methods[] = {
    {"peek", (PyCFunction)(void (*)(void))peek, METH_FASTCALL, DOC_peek},
    {"poke", (PyCFunction)(void (*)(void))poke, METH_FASTCALL, DOC_poke},
    {NULL, NULL, 0, NULL},
};

int memprot_add_peek(PyObject *module) { return PyModule_AddFunctions(module, methods); }
