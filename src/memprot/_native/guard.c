// The guard pools as a whole, whoever hands out blocks from them.
#include "binding.h"
#include "docstrings.h"
#include "scope.h"

#include "guard.h"
#include "record.h"

static int read_statistics(PyObject *owner, struct memprot_guard_statistics *ret) {
    long of = PyLong_AsLong(owner);
    if (of == -1 && PyErr_Occurred())
        return -1;
    if (of < 0 || of >= MEMPROT_GUARD_OWNERS) {
        PyErr_Format(PyExc_ValueError, "nobody who hands out blocks has the number %ld", of);
        return -1;
    }
    memprot_guard_read_statistics((enum memprot_guard_owner)of, ret);
    return 0;
}

// guard_statistics(owner)
static PyObject *guard_statistics(PyObject *module, PyObject *owner) {
    (void)module;
    struct memprot_guard_statistics now;
    if (read_statistics(owner, &now) < 0)
        return NULL;
    struct memprot_guard_count counts[MEMPROT_GUARD_COUNTS];
    memprot_guard_counts(&now, counts);
    PyObject *result = PyDict_New();
    for (size_t i = 0; result && i < MEMPROT_GUARD_COUNTS; i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(counts[i].value);
        if (!value || PyDict_SetItemString(result, counts[i].name, value) < 0)
            Py_CLEAR(result);
        Py_XDECREF(value);
    }
    return result;
}

// guard_refusal(owner)
static PyObject *guard_refusal(PyObject *module, PyObject *owner) {
    (void)module;
    struct memprot_guard_statistics now;
    if (read_statistics(owner, &now) < 0)
        return NULL;
    return PyLong_FromLong(now.refusal);
}

// guard_quarantine(limit)
static PyObject *guard_quarantine(PyObject *module, PyObject *limit) {
    (void)module;
    size_t bytes = PyLong_AsSize_t(limit);
    if (bytes == (size_t)-1 && PyErr_Occurred())
        return NULL;
    memprot_guard_set_quarantine(bytes);
    Py_RETURN_NONE;
}

// guard_check()
static PyObject *guard_check(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    size_t looked_at = memprot_guard_check();
    // What is on its way to this thread is raised at once.
    PyObject *error = memprot_record_waiting() > 0 ? memprot_scope_take() : NULL;
    if (error)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    return PyErr_Occurred() ? NULL : PyLong_FromSize_t(looked_at);
}

static PyMethodDef methods[] = {
    {"guard_statistics", guard_statistics, METH_O, DOC_guard_statistics},
    {"guard_refusal", guard_refusal, METH_O, DOC_guard_refusal},
    {"guard_quarantine", guard_quarantine, METH_O, DOC_guard_quarantine},
    {"guard_check", guard_check, METH_NOARGS, DOC_guard_check},
    {NULL, NULL, 0, NULL},
};

int memprot_add_guard(PyObject *module) { return PyModule_AddFunctions(module, methods); }
