#include "kernel_error.h"
#include "docstrings.h"

#include "epoch.h"
#include "forbidden.h"

#include <errno.h>

static PyObject *fault_behind;

bool memprot_is_bad_address(PyObject *error) {
    if (error == Py_None || !PyObject_TypeCheck(error, (PyTypeObject *)PyExc_OSError))
        return false;
    PyObject *number = ((PyOSErrorObject *)error)->myerrno;
    return number && PyLong_CheckExact(number) && PyLong_AsLong(number) == EFAULT;
}

PyObject *memprot_kernel_error_fault(PyObject *error, PyObject *known) {
    PyObject *fault = known && fault_behind ? PyObject_CallFunctionObjArgs(fault_behind, error, known, NULL) : NULL;
    Py_XDECREF(known);
    if (fault == Py_None)
        Py_CLEAR(fault);
    return fault;
}

// find_forbidden(start, stop, write) -> the first byte that memory of memprot's forbids, or None
static PyObject *find_forbidden(PyObject *module, PyObject *args) {
    (void)module;
    unsigned long long start, stop;
    int write;
    struct memprot_forbidden forbidden;
    if (!PyArg_ParseTuple(args, "KKp:find_forbidden", &start, &stop, &write))
        return NULL;
    int token = memprot_epoch_enter();
    bool found = memprot_forbidden_find(start, stop, write, &forbidden);
    memprot_epoch_leave(token);
    return found ? PyLong_FromUnsignedLongLong(forbidden.address) : Py_NewRef(Py_None);
}

static PyObject *set_kernel_fault(PyObject *module, PyObject *callable) {
    (void)module;
    Py_XSETREF(fault_behind, Py_NewRef(callable));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"find_forbidden", find_forbidden, METH_VARARGS, DOC_find_forbidden},
    {"set_kernel_fault", set_kernel_fault, METH_O, DOC_set_kernel_fault},
    {NULL, NULL, 0, NULL},
};

int memprot_add_kernel_error(PyObject *module) { return PyModule_AddFunctions(module, methods); }
