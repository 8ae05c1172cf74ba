// Reading and writing a Region by accessors that raise where the memory forbids it.
#include "region.h"

#include "critical_section.h"
#include "docstrings.h"
#include "region_copy.h"

#include "record.h"

#include <sys/mman.h>

static PyObject *fault_factory;

int memprot_region_check_open(Region *self) {
    if (self->map_start)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the Region is closed");
    return -1;
}

static PyObject *set_region_fault(PyObject *module, PyObject *callable) {
    (void)module;
    Py_XSETREF(fault_factory, Py_NewRef(callable));
    Py_RETURN_NONE;
}

// Takes over @p partial, the bytes that were read; NULL for none.
static void raise_fault(Region *self, uintptr_t address, enum memprot_access access,
                        const struct memprot_access_failure *failure, size_t done, PyObject *partial) {
    PyObject *error =
        PyObject_CallFunction(fault_factory, "OKiiinN", self, (unsigned long long)address, (int)access, failure->signal,
                              failure->key, (Py_ssize_t)done, partial ? partial : Py_NewRef(Py_None));
    if (!error)
        return;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
}

static void raise_failure(Region *self, const struct memprot_copy *copied, PyObject *partial) {
    uintptr_t side = copied->source ? (uintptr_t)copied->from : (uintptr_t)copied->to;
    raise_fault(self, side + copied->done, copied->source ? MEMPROT_READ : MEMPROT_WRITE, &copied->failure,
                copied->done, partial);
}

Py_ssize_t memprot_region_length(Region *self) { return (Py_ssize_t)self->size; }

static PyObject *read_bytes(Region *self, size_t start, size_t length) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (!bytes || length == 0)
        return bytes;
    struct memprot_copy copied = {
        .to = PyBytes_AS_STRING(bytes), .from = (void *)(self->address + start), .length = length};
    memprot_region_copy(self, &copied, start, PROT_READ);
    if (copied.done == length)
        return bytes;
    if (_PyBytes_Resize(&bytes, (Py_ssize_t)copied.done) == 0)
        raise_failure(self, &copied, bytes);
    return NULL;
}

static int write_bytes(Region *self, size_t start, const void *from, size_t length) {
    if (length == 0)
        return 0;
    struct memprot_copy copied = {.to = (void *)(self->address + start), .from = from, .length = length};
    memprot_region_copy(self, &copied, start, PROT_WRITE);
    if (copied.done == length)
        return 0;
    raise_failure(self, &copied, NULL);
    return -1;
}

static int index_of(Region *self, PyObject *key, size_t *ret) {
    Py_ssize_t index = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (index == -1 && PyErr_Occurred())
        return -1;
    if (index < 0)
        index += (Py_ssize_t)self->size;
    if (index < 0 || (size_t)index >= self->size) {
        PyErr_Format(PyExc_IndexError, "index %R is outside the Region's %zu bytes", key, self->size);
        return -1;
    }
    *ret = (size_t)index;
    return 0;
}

static PyObject *memprot_region_subscript_inside(Region *self, PyObject *key) {
    struct memprot_access_failure failure;
    if (memprot_region_check_open(self) < 0)
        return NULL;
    if (PyIndex_Check(key)) {
        size_t index;
        if (index_of(self, key, &index) < 0 || memprot_region_check_open(self) < 0)
            return NULL;
        int byte = memprot_region_load(self, index, &failure);
        if (byte >= 0)
            return PyLong_FromLong(byte);
        raise_fault(self, self->address + index, MEMPROT_READ, &failure, 0, PyBytes_FromStringAndSize(NULL, 0));
        return NULL;
    }
    Py_ssize_t start, stop, step;
    if (!PySlice_Check(key))
        return PyErr_Format(PyExc_TypeError, "a Region's indices are int or slice, not %.100s", Py_TYPE(key)->tp_name);
    // What the index runs may close the Region, so that is looked at after it.
    if (PySlice_Unpack(key, &start, &stop, &step) < 0 || memprot_region_check_open(self) < 0)
        return NULL;
    Py_ssize_t length = PySlice_AdjustIndices((Py_ssize_t)self->size, &start, &stop, step);
    if (step == 1)
        return read_bytes(self, (size_t)start, (size_t)length);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, length);
    for (Py_ssize_t i = 0; bytes && i < length; i++) {
        size_t index = (size_t)(start + i * step);
        int byte = memprot_region_load(self, index, &failure);
        if (byte >= 0)
            PyBytes_AS_STRING(bytes)[i] = (char)byte;
        else if (_PyBytes_Resize(&bytes, i) == 0) {
            raise_fault(self, self->address + index, MEMPROT_READ, &failure, (size_t)i, bytes);
            return NULL;
        }
    }
    return bytes;
}

MEMPROT_CRITICAL(PyObject *, memprot_region_subscript, (Region * self, PyObject *key), self, self, key)

static int store_byte(Region *self, size_t index, unsigned char byte, size_t done) {
    struct memprot_access_failure failure;
    if (memprot_region_store_byte(self, index, byte, &failure) == 0)
        return 0;
    raise_fault(self, self->address + index, MEMPROT_WRITE, &failure, done, NULL);
    return -1;
}

static int store_slice(Region *self, PyObject *key, PyObject *value) {
    Py_ssize_t start, stop, step;
    Py_buffer from;
    if (PySlice_Unpack(key, &start, &stop, &step) < 0)
        return -1;
    Py_ssize_t length = PySlice_AdjustIndices((Py_ssize_t)self->size, &start, &stop, step);
    if (PyObject_GetBuffer(value, &from, PyBUF_SIMPLE) < 0)
        return -1;
    int result = memprot_region_check_open(self);
    if (result < 0) {
        // what the key or the value runs has closed it
    } else if (from.len != length) {
        PyErr_Format(PyExc_ValueError, "the slice has %zd bytes and the value %zd; a Region keeps its size", length,
                     from.len);
        result = -1;
    } else if (step == 1) {
        result = write_bytes(self, (size_t)start, from.buf, (size_t)length);
    } else {
        for (Py_ssize_t i = 0; result == 0 && i < length; i++)
            result = store_byte(self, (size_t)(start + i * step), ((unsigned char *)from.buf)[i], (size_t)i);
    }
    PyBuffer_Release(&from);
    return result;
}

static int memprot_region_store_inside(Region *self, PyObject *key, PyObject *value) {
    if (memprot_region_check_open(self) < 0)
        return -1;
    if (!value) {
        PyErr_SetString(PyExc_TypeError, "a Region keeps its size: bytes cannot be deleted");
        return -1;
    }
    if (PySlice_Check(key))
        return store_slice(self, key, value);
    if (!PyIndex_Check(key)) {
        PyErr_Format(PyExc_TypeError, "a Region's indices are int or slice, not %.100s", Py_TYPE(key)->tp_name);
        return -1;
    }
    size_t index;
    if (index_of(self, key, &index) < 0)
        return -1;
    long byte = PyLong_AsLong(value);
    if (byte == -1 && PyErr_Occurred())
        return -1;
    if (byte < 0 || byte > 255) {
        PyErr_Format(PyExc_ValueError, "%R is no byte; it must be 0 to 255", value);
        return -1;
    }
    return memprot_region_check_open(self) < 0 ? -1 : store_byte(self, index, (unsigned char)byte, 0);
}

MEMPROT_CRITICAL(int, memprot_region_store, (Region * self, PyObject *key, PyObject *value), self, self, key, value)

static int out_of_bounds(Region *self, Py_ssize_t offset, Py_ssize_t length) {
    if (offset >= 0 && length >= 0 && (size_t)offset <= self->size && (size_t)length <= self->size - (size_t)offset)
        return 0;
    PyErr_Format(PyExc_ValueError, "%zd bytes at offset %zd do not lie within the Region's %zu bytes", length, offset,
                 self->size);
    return -1;
}

// Two parameters by position or by name; those not given stay NULL. Parsing by format costs more than the copy.
static int take_arguments(const char *method, const char *const names[2], PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords, PyObject *ret[2]) {
    if (count > 2) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most 2 arguments (%zd given)", method, count);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        ret[i] = args[i];
    for (Py_ssize_t i = 0; keywords && i < PyTuple_GET_SIZE(keywords); i++) {
        PyObject *name = PyTuple_GET_ITEM(keywords, i);
        int which = PyUnicode_CompareWithASCIIString(name, names[0]) == 0   ? 0
                    : PyUnicode_CompareWithASCIIString(name, names[1]) == 0 ? 1
                                                                            : -1;
        if (which < 0 || ret[which]) {
            PyErr_Format(PyExc_TypeError, "%s() got %s argument %R", method,
                         which < 0 ? "an unexpected" : "a second value for the", name);
            return -1;
        }
        ret[which] = args[count + i];
    }
    return 0;
}

static int as_size(PyObject *value, Py_ssize_t *ret) {
    *ret = PyNumber_AsSsize_t(value, PyExc_OverflowError);
    return *ret == -1 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *memprot_region_read_inside(Region *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    static const char *const names[2] = {"offset", "size"};
    PyObject *given[2] = {NULL, NULL};
    Py_ssize_t offset = 0, length;
    if (take_arguments("read", names, args, count, keywords, given) < 0 || (given[0] && as_size(given[0], &offset) < 0))
        return NULL;
    bool all = !given[1] || given[1] == Py_None;
    // What the arguments run may close the Region, so that is looked at after them.
    if ((!all && as_size(given[1], &length) < 0) || memprot_region_check_open(self) < 0)
        return NULL;
    if (all)
        length = (Py_ssize_t)self->size - offset;
    if (out_of_bounds(self, offset, length) < 0)
        return NULL;
    return read_bytes(self, (size_t)offset, (size_t)length);
}

MEMPROT_CRITICAL(PyObject *, memprot_region_read,
                 (Region * self, PyObject *const *args, Py_ssize_t count, PyObject *keywords), self, self, args, count,
                 keywords)

static PyObject *memprot_region_write_inside(Region *self, PyObject *const *args, Py_ssize_t count,
                                             PyObject *keywords) {
    static const char *const names[2] = {"offset", "data"};
    PyObject *given[2] = {NULL, NULL};
    Py_ssize_t offset;
    Py_buffer data;
    if (take_arguments("write", names, args, count, keywords, given) < 0)
        return NULL;
    if (!given[0] || !given[1])
        return PyErr_Format(PyExc_TypeError, "write() needs the argument '%s'", names[given[0] ? 1 : 0]);
    if (as_size(given[0], &offset) < 0 || PyObject_GetBuffer(given[1], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    int failed = memprot_region_check_open(self);
    if (!failed)
        failed = out_of_bounds(self, offset, data.len);
    if (!failed)
        failed = write_bytes(self, (size_t)offset, data.buf, (size_t)data.len);
    Py_ssize_t written = data.len;
    PyBuffer_Release(&data);
    return failed ? NULL : PyLong_FromSsize_t(written);
}

MEMPROT_CRITICAL(PyObject *, memprot_region_write,
                 (Region * self, PyObject *const *args, Py_ssize_t count, PyObject *keywords), self, self, args, count,
                 keywords)

static PyMethodDef methods[] = {
    {"set_region_fault", set_region_fault, METH_O, DOC_set_region_fault},
    {NULL, NULL, 0, NULL},
};

int memprot_add_region_access(PyObject *module) { return PyModule_AddFunctions(module, methods); }
