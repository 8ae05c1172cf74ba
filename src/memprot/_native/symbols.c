// Addresses of code as (function, library, offset, position).
#include "binding.h"
#include "docstrings.h"

#include "symbols.h"

#include <string.h>

// The argument becomes an address: any int of 64 bits without a sign. Returns 0, or -1 with an exception set.
static int convert_address(PyObject *object, unsigned long long *ret) {
    if (!PyLong_Check(object) || PyBool_Check(object)) {
        PyErr_Format(PyExc_TypeError, "an address is an int, not %.200s", Py_TYPE(object)->tp_name);
        return -1;
    }
    *ret = PyLong_AsUnsignedLongLong(object);
    return *ret == (unsigned long long)-1 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *none_or_text(const char *text, PyObject *(*decode)(const char *)) {
    return text ? decode(text) : Py_NewRef(Py_None);
}

// Symbols are bytes to the linker, UTF-8 by convention.
static PyObject *decode_function(const char *name) {
    return PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "backslashreplace");
}

static PyObject *build_symbol(const struct memprot_symbol *symbol) {
    PyObject *function = none_or_text(symbol->function, decode_function);
    PyObject *library = none_or_text(symbol->library, PyUnicode_DecodeFSDefault);
    PyObject *offset = symbol->library ? PyLong_FromUnsignedLongLong(symbol->offset) : Py_NewRef(Py_None);
    PyObject *position = symbol->has_position ? PyLong_FromUnsignedLongLong(symbol->position) : Py_NewRef(Py_None);
    PyObject *result =
        function && library && offset && position ? PyTuple_Pack(4, function, library, offset, position) : NULL;
    Py_XDECREF(function);
    Py_XDECREF(library);
    Py_XDECREF(offset);
    Py_XDECREF(position);
    return result;
}

static PyObject *symbol(PyObject *Py_UNUSED(module), PyObject *argument) {
    unsigned long long address;
    if (convert_address(argument, &address) < 0)
        return NULL;
    struct memprot_symbol found;
    Py_BEGIN_ALLOW_THREADS memprot_symbol_find(address, &found);
    Py_END_ALLOW_THREADS return build_symbol(&found);
}

static PyObject *find_in_file(PyObject *const *arguments, Py_ssize_t count, const char *name,
                              bool (*find)(const char *, uint64_t, struct memprot_symbol *)) {
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "%s() takes 2 arguments (%zd given)", name, count);
    unsigned long long address;
    PyObject *path;
    if (convert_address(arguments[1], &address) < 0 || !PyUnicode_FSConverter(arguments[0], &path))
        return NULL;
    struct memprot_symbol found;
    bool known;
    Py_BEGIN_ALLOW_THREADS known = find(PyBytes_AS_STRING(path), address, &found);
    Py_END_ALLOW_THREADS PyObject *result =
        known ? build_symbol(&found) : PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, arguments[0]);
    Py_DECREF(path);
    return result;
}

static PyObject *symbol_in_file(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count) {
    return find_in_file(arguments, count, "symbol_in_file", memprot_symbol_find_in_file);
}

static PyObject *symbol_at_file_offset(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count) {
    return find_in_file(arguments, count, "symbol_at_file_offset", memprot_symbol_find_at_file_offset);
}

static PyMethodDef methods[] = {
    {"symbol", symbol, METH_O, DOC_symbol},
    {"symbol_in_file", (PyCFunction)(void (*)(void))symbol_in_file, METH_FASTCALL, DOC_symbol_in_file},
    {"symbol_at_file_offset", (PyCFunction)(void (*)(void))symbol_at_file_offset, METH_FASTCALL,
     DOC_symbol_at_file_offset},
    {NULL, NULL, 0, NULL},
};

int memprot_add_symbols(PyObject *module) { return PyModule_AddFunctions(module, methods); }
