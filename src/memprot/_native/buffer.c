// The bytes of an object with a buffer: where they are, and whether they are data.
#include "buffer.h"
#include "docstrings.h"

// The lowest and the highest byte; negative strides count downwards.
void memprot_buffer_span(const Py_buffer *view, uint64_t *address, uint64_t *size) {
    uint64_t low = (uintptr_t)view->buf, high = low + (uint64_t)view->itemsize;
    *address = (uintptr_t)view->buf;
    *size = (uint64_t)view->len;
    if (!view->strides || view->len == 0)
        return;
    for (int i = 0; i < view->ndim; i++) {
        int64_t reach = (int64_t)view->strides[i] * (view->shape[i] - 1);
        *(reach < 0 ? &low : &high) += (uint64_t)reach;
    }
    *address = low;
    *size = high - low;
}

// Bytes that are references to objects are no raw data: a write to them must not be taken back.
static bool is_raw(const Py_buffer *view) {
    bool in_name = false; // fields of a structure are named between colons
    for (const char *letter = view->format; letter && *letter; letter++) {
        in_name ^= *letter == ':';
        if (*letter == 'O' && !in_name)
            return false;
    }
    return true;
}

// Formats are asked for only to know what the bytes are; some arrays have none that the protocol can express.
int memprot_buffer_take(PyObject *object, Py_buffer *view, bool *raw) {
    if (!PyObject_CheckBuffer(object)) {
        PyErr_Format(PyExc_TypeError,
                     "an object with a buffer is needed (an array, bytearray, mmap or memoryview), not %.200s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    if (PyObject_GetBuffer(object, view, PyBUF_FULL_RO) == 0) {
        *raw = is_raw(view);
        return 0;
    }
    *raw = false; // as far as the protocol tells
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyObject_GetBuffer(object, view, PyBUF_STRIDED_RO) < 0) {
        PyErr_Clear();
        PyErr_Restore(type, value, traceback);
        return -1;
    }
    Py_XDECREF(type), Py_XDECREF(value), Py_XDECREF(traceback);
    return 0;
}

static PyObject *buffer_range(PyObject *module, PyObject *object) {
    (void)module;
    Py_buffer view;
    uint64_t address, size;
    bool raw;
    if (memprot_buffer_take(object, &view, &raw) < 0)
        return NULL;
    memprot_buffer_span(&view, &address, &size);
    PyBuffer_Release(&view);
    return Py_BuildValue("(KKN)", (unsigned long long)address, (unsigned long long)size, PyBool_FromLong(raw));
}

static PyMethodDef methods[] = {
    {"buffer_range", buffer_range, METH_O, DOC_buffer_range},
    {NULL, NULL, 0, NULL},
};

int memprot_add_buffer(PyObject *module) { return PyModule_AddFunctions(module, methods); }
