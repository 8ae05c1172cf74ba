// The C library's malloc, guarded by a library that was preloaded, or was not: it is looked for by name.
#include "docstrings.h"
#include "engine.h"
#include "stacks.h"

#include "origin.h"

#include <dlfcn.h>
#include <string.h>

static void (*configure)(uint32_t sample, enum memprot_side side, size_t align);
static uint64_t (*sampled_out)(void);

static void find(const char *name, void *ret) {
    void *found = dlsym(RTLD_DEFAULT, name);
    memcpy(ret, &found, sizeof found);
}

// malloc_configure(sample, side, align)
static PyObject *malloc_configure(PyObject *module, PyObject *args) {
    (void)module;
    static bool acquired;
    unsigned sample;
    int side;
    Py_ssize_t align;
    if (!PyArg_ParseTuple(args, "Iin:malloc_configure", &sample, &side, &align))
        return NULL;
    if (!configure)
        return PyErr_Format(PyExc_RuntimeError,
                            "malloc can only be guarded in a process that was started for it; start the program with: "
                            "memprot run --guard malloc");
    if (!acquired && memprot_engine_acquire() < 0)
        return NULL;
    acquired = true;
    memprot_origin_set_python(memprot_stack_capture_anywhere);
    configure(sample, (enum memprot_side)side, (size_t)align);
    Py_RETURN_NONE;
}

static PyObject *malloc_is_ours(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyBool_FromLong(configure != NULL);
}

static PyObject *malloc_sampled_out(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyLong_FromUnsignedLongLong(sampled_out ? sampled_out() : 0);
}

// native_stack(number)
static PyObject *native_stack(PyObject *module, PyObject *number) {
    (void)module;
    unsigned long of = PyLong_AsUnsignedLong(number);
    if (of == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    uintptr_t pcs[MEMPROT_NATIVE_DEPTH];
    uint32_t count = of <= UINT32_MAX ? memprot_native_stack_read((uint32_t)of, pcs, MEMPROT_NATIVE_DEPTH) : 0;
    PyObject *result = PyTuple_New(count);
    for (uint32_t i = 0; result && i < count; i++) {
        PyObject *address = PyLong_FromSize_t(pcs[i]);
        if (address)
            PyTuple_SET_ITEM(result, i, address);
        else
            Py_CLEAR(result);
    }
    return result;
}

static PyMethodDef methods[] = {
    {"malloc_configure", malloc_configure, METH_VARARGS, DOC_malloc_configure},
    {"malloc_is_ours", malloc_is_ours, METH_NOARGS, DOC_malloc_is_ours},
    {"malloc_sampled_out", malloc_sampled_out, METH_NOARGS, DOC_malloc_sampled_out},
    {"native_stack", native_stack, METH_O, DOC_native_stack},
    {NULL, NULL, 0, NULL},
};

int memprot_add_malloc(PyObject *module) {
    find("memprot_malloc_configure", &configure);
    find("memprot_malloc_sampled_out", &sampled_out);
    return PyModule_AddFunctions(module, methods);
}
