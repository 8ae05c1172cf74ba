// Suppressions, from tuples of Python's to what signal handlers read.
#include "binding.h"
#include "docstrings.h"

#include "suppression.h"

#include <stdlib.h>
#include <string.h>

// Handlers may be looking at any that ever held, so that none is given back.
static struct memprot_suppressions *current;

// A copy that stays, or NULL for None. Returns 0, or -1 with an exception set.
static int convert_pattern(PyObject *object, const char **ret) {
    *ret = NULL;
    if (object == Py_None)
        return 0;
    PyObject *bytes = PyUnicode_AsEncodedString(object, "utf-8", "surrogatepass");
    if (!bytes)
        return -1;
    *ret = strdup(PyBytes_AS_STRING(bytes));
    Py_DECREF(bytes);
    if (!*ret)
        PyErr_NoMemory();
    return *ret ? 0 : -1;
}

// None, or a tuple (library, function, file).
static int convert_frame(PyObject *object, struct memprot_suppression_frame *ret) {
    *ret = (struct memprot_suppression_frame){.any_number = object == Py_None};
    PyObject *library, *function, *file;
    if (ret->any_number)
        return 0;
    if (!PyArg_ParseTuple(object, "OOO:set_suppressions", &library, &function, &file) ||
        convert_pattern(library, &ret->library) < 0 || convert_pattern(function, &ret->function) < 0)
        return -1;
    return convert_pattern(file, &ret->file);
}

// A tuple (kinds, accesses, tuple of frames).
static int convert(PyObject *object, struct memprot_suppression *ret) {
    unsigned kinds, accesses;
    PyObject *frames;
    if (!PyArg_ParseTuple(object, "IIO!:set_suppressions", &kinds, &accesses, &PyTuple_Type, &frames))
        return -1;
    size_t count = (size_t)PyTuple_GET_SIZE(frames);
    struct memprot_suppression_frame *copies = calloc(count ? count : 1, sizeof *copies);
    if (!copies) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (convert_frame(PyTuple_GET_ITEM(frames, i), &copies[i]) < 0)
            return -1;
    }
    ret->kinds = kinds;
    ret->accesses = accesses;
    ret->count = count;
    ret->frames = copies;
    return 0;
}

static PyObject *set_suppressions(PyObject *Py_UNUSED(module), PyObject *list) {
    if (!PyList_Check(list))
        return PyErr_Format(PyExc_TypeError, "suppressions are a list, not %.200s", Py_TYPE(list)->tp_name);
    size_t count = (size_t)PyList_GET_SIZE(list);
    struct memprot_suppressions *made = calloc(1, sizeof *made + count * sizeof *made->of);
    if (!made)
        return PyErr_NoMemory();
    made->count = count;
    for (size_t i = 0; i < count; i++) {
        if (convert(PyList_GET_ITEM(list, (Py_ssize_t)i), &made->of[i]) < 0)
            return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    memprot_suppressions_set(made);
    Py_END_ALLOW_THREADS;
    current = made;
    Py_RETURN_NONE;
}

static PyObject *suppressed(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    size_t length = current ? current->count : 0;
    PyObject *counts = PyList_New((Py_ssize_t)length);
    for (size_t i = 0; counts && i < length; i++) {
        PyObject *count = PyLong_FromUnsignedLongLong(atomic_load(&current->of[i].matched));
        if (!count)
            Py_CLEAR(counts);
        else
            PyList_SET_ITEM(counts, (Py_ssize_t)i, count);
    }
    return counts;
}

static PyMethodDef methods[] = {
    {"set_suppressions", set_suppressions, METH_O, DOC_set_suppressions},
    {"suppressed", suppressed, METH_NOARGS, DOC_suppressed},
    {NULL, NULL, 0, NULL},
};

int memprot_add_suppressions(PyObject *module) { return PyModule_AddFunctions(module, methods); }
