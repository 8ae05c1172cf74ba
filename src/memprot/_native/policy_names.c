#include "policy_names.h"
#include "docstrings.h"

static const struct {
    const char *name;
    enum memprot_policy policy;
} names[] = {
    {"raise", MEMPROT_POLICY_RAISE},
    {"log", MEMPROT_POLICY_LOG},
    {"discard", MEMPROT_POLICY_DISCARD},
    {"abort", MEMPROT_POLICY_ABORT},
};

int memprot_policy_from(PyObject *object, enum memprot_policy *ret) {
    if (!PyUnicode_Check(object)) {
        *ret = MEMPROT_POLICY_ASK;
        if (PyCallable_Check(object))
            return 0;
        PyErr_Format(PyExc_TypeError, "a fault policy is a name or a callable, not %s", Py_TYPE(object)->tp_name);
        return -1;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (PyUnicode_CompareWithASCIIString(object, names[i].name) == 0) {
            *ret = names[i].policy;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError,
                 "%R is no fault policy; choose 'raise', 'log', 'discard', 'abort' or give a callable", object);
    return -1;
}

static PyObject *policy_number(PyObject *module, PyObject *policy) {
    (void)module;
    enum memprot_policy number;
    return memprot_policy_from(policy, &number) < 0 ? NULL : PyLong_FromLong(number);
}

static PyMethodDef methods[] = {
    {"policy_number", policy_number, METH_O, DOC_policy_number},
    {NULL, NULL, 0, NULL},
};

int memprot_add_policy_names(PyObject *module) { return PyModule_AddFunctions(module, methods); }
