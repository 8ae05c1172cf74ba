// Reading and writing a Region: by accessors that raise where the memory forbids it, and as a buffer for
// others.
#include "region.h"

#include "critical_section.h"
#include "docstrings.h"

#include "access.h"
#include "record.h"

#include <sys/mman.h>

enum { LONG_COPY = 1 << 20 }; // bytes; other threads run meanwhile

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

static void raise_fault(Region *self, uintptr_t address, enum memprot_access access) {
    struct memprot_access_failure *failure = memprot_access_last_failure();
    PyObject *error = PyObject_CallFunction(fault_factory, "OKiii", self, (unsigned long long)address, (int)access,
                                            failure->signal, failure->key);
    if (!error)
        return;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
}

// Copies between the region and other memory, which may itself be protected: the fault's address tells whose
// it was.
static int copy(Region *self, void *to, const void *from, size_t length) {
    size_t left;
    self->exports++;
    if (length >= LONG_COPY) {
        Py_BEGIN_ALLOW_THREADS;
        left = memprot_access_copy(to, from, length);
        Py_END_ALLOW_THREADS;
    } else {
        left = memprot_access_copy(to, from, length);
    }
    self->exports--;
    if (left == 0)
        return 0;
    uintptr_t address = memprot_access_last_failure()->address;
    uintptr_t stop = (uintptr_t)to + length;
    bool writing = address >= (uintptr_t)to && address < stop;
    raise_fault(self, address, writing ? MEMPROT_WRITE : MEMPROT_READ);
    return -1;
}

Py_ssize_t memprot_region_length(Region *self) { return (Py_ssize_t)self->size; }

static PyObject *read_bytes(Region *self, size_t start, size_t length) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (bytes && copy(self, PyBytes_AS_STRING(bytes), (void *)(self->address + start), length) < 0)
        Py_CLEAR(bytes);
    return bytes;
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
    if (memprot_region_check_open(self) < 0)
        return NULL;
    if (PyIndex_Check(key)) {
        size_t index;
        if (index_of(self, key, &index) < 0 || memprot_region_check_open(self) < 0)
            return NULL;
        int byte = memprot_access_load(self->address + index);
        if (byte >= 0)
            return PyLong_FromLong(byte);
        raise_fault(self, self->address + index, MEMPROT_READ);
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
        int byte = memprot_access_load(self->address + (size_t)(start + i * step));
        if (byte < 0) {
            raise_fault(self, self->address + (size_t)(start + i * step), MEMPROT_READ);
            Py_CLEAR(bytes);
        } else {
            PyBytes_AS_STRING(bytes)[i] = (char)byte;
        }
    }
    return bytes;
}

MEMPROT_CRITICAL(PyObject *, memprot_region_subscript, (Region * self, PyObject *key), self, self, key)

static int store_byte(Region *self, size_t index, unsigned char byte) {
    if (memprot_access_store(self->address + index, byte) == 0)
        return 0;
    raise_fault(self, self->address + index, MEMPROT_WRITE);
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
        result = copy(self, (void *)(self->address + (size_t)start), from.buf, (size_t)length);
    } else {
        for (Py_ssize_t i = 0; result == 0 && i < length; i++)
            result = store_byte(self, (size_t)(start + i * step), ((unsigned char *)from.buf)[i]);
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
    return memprot_region_check_open(self) < 0 ? -1 : store_byte(self, index, (unsigned char)byte);
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
        failed = copy(self, (void *)(self->address + (size_t)offset), data.buf, (size_t)data.len);
    Py_ssize_t written = data.len;
    PyBuffer_Release(&data);
    return failed ? NULL : PyLong_FromSsize_t(written);
}

MEMPROT_CRITICAL(PyObject *, memprot_region_write,
                 (Region * self, PyObject *const *args, Py_ssize_t count, PyObject *keywords), self, self, args, count,
                 keywords)

// ---- buffer protocol

static int memprot_region_get_buffer_inside(Region *self, Py_buffer *view, int flags) {
    if (memprot_region_check_open(self) < 0)
        return -1;
    bool readonly = false;
    for (size_t page = 0; page < self->overlay->pages; page++)
        readonly |= !(self->overlay->prot[page] & PROT_WRITE);
    if (readonly && (flags & PyBUF_WRITABLE)) {
        PyErr_SetString(PyExc_BufferError, "the Region is not writable now; protect it with \"rw-\" first");
        return -1;
    }
    if (PyBuffer_FillInfo(view, (PyObject *)self, (void *)self->address, (Py_ssize_t)self->size, readonly, flags) < 0)
        return -1;
    self->exports++;
    return 0;
}

MEMPROT_CRITICAL(int, memprot_region_get_buffer, (Region * self, Py_buffer *view, int flags), self, self, view, flags)

void memprot_region_release_buffer(Region *self, Py_buffer *view) {
    (void)view;
    Py_BEGIN_CRITICAL_SECTION(self);
    self->exports--;
    Py_END_CRITICAL_SECTION();
}

static PyMethodDef methods[] = {
    {"set_region_fault", set_region_fault, METH_O, DOC_set_region_fault},
    {NULL, NULL, 0, NULL},
};

int memprot_add_region_access(PyObject *module) { return PyModule_AddFunctions(module, methods); }
