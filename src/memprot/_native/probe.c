// Facts about our own memory that are asked by calls which change nothing.
#include "binding.h"

#include "docstrings.h"
#include "probe.h"

static PyObject *seems_sealed(PyObject *Py_UNUSED(module), PyObject *argument) {
    int negative;
    uint64_t page;
    if (memprot_as_number("seems_sealed", "page", argument, &negative, &page) < 0)
        return NULL;
    int answer = memprot_seems_sealed(page);
    if (answer < 0)
        Py_RETURN_NONE;
    return PyBool_FromLong(answer);
}

static PyObject *near_mapping_limit(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyBool_FromLong(memprot_near_mapping_limit());
}

static PyObject *has_room_for(PyObject *Py_UNUSED(module), PyObject *argument) {
    int negative;
    uint64_t size;
    if (memprot_as_number("has_room_for", "size", argument, &negative, &size) < 0)
        return NULL;
    return PyBool_FromLong(memprot_has_room_for(size));
}

static PyObject *stack_address(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyLong_FromVoidPtr(__builtin_frame_address(0));
}

static PyMethodDef methods[] = {
    {"stack_address", stack_address, METH_NOARGS, DOC_stack_address},
    {"has_room_for", has_room_for, METH_O, DOC_has_room_for},
    {"seems_sealed", seems_sealed, METH_O, DOC_seems_sealed},
    {"near_mapping_limit", near_mapping_limit, METH_NOARGS, DOC_near_mapping_limit},
    {NULL, NULL, 0, NULL},
};

int memprot_add_probe(PyObject *module) { return PyModule_AddFunctions(module, methods); }
