// A delivery may meet a finalizer, or a callback of the garbage collector, that runs between the access and the line
// after it. What is raised there ends there: the interpreter hands it to sys.unraisablehook. In a scope it is kept, and
// raised together with the next fault of its thread or where the scope ends.
#include "unraised.h"
#include "critical_section.h"
#include "docstrings.h"

#include "policy.h"

#include <stdatomic.h>

static PyObject *own_hook;
static PyObject *next_hook; // under the mutex
static memprot_mutex hooking;
static atomic_bool armed;
static _Thread_local bool passing;

int memprot_unraised_arm(void) {
    PyObject *current = PySys_GetObject("unraisablehook");
    if (!current || current == own_hook)
        return 0;
    Py_INCREF(current);
    MEMPROT_LOCK(&hooking);
    PyObject *before = next_hook;
    next_hook = current;
    MEMPROT_UNLOCK(&hooking);
    Py_XDECREF(before);
    atomic_store(&armed, true);
    return PySys_SetObject("unraisablehook", own_hook);
}

// A new reference, or NULL.
static PyObject *hook_below(void) {
    MEMPROT_LOCK(&hooking);
    PyObject *below = Py_XNewRef(next_hook);
    MEMPROT_UNLOCK(&hooking);
    return below;
}

int memprot_unraised_disarm(void) {
    if (memprot_scope_is_any_open() || !atomic_exchange(&armed, false))
        return 0;
    if (PySys_GetObject("unraisablehook") != own_hook)
        return 0;
    PyObject *below = hook_below();
    int failed = PySys_SetObject("unraisablehook", below);
    Py_XDECREF(below);
    return failed;
}

bool memprot_unraised_is_armed(void) { return atomic_load_explicit(&armed, memory_order_relaxed); }

static PyObject *join(PyObject *first, PyObject *later) {
    PyObject *joined = PyObject_CallMethod(first, "_join", "O", later);
    if (!joined)
        PyErr_WriteUnraisable(first);
    Py_XDECREF(joined);
    Py_DECREF(later);
    return first;
}

PyObject *memprot_unraised_join(Scope *scope, PyObject *error) {
    PyObject *earlier = scope ? scope->raised_in_vain : NULL;
    if (earlier)
        scope->raised_in_vain = NULL;
    if (!earlier || earlier == error) {
        Py_XDECREF(earlier);
        return error;
    }
    return error ? join(earlier, error) : earlier;
}

// Whether it is a fault that the engine has delivered; what memprot's own accessors raise is nobody else's.
static bool was_delivered(PyObject *error) {
    PyObject *row = PyObject_GetAttrString(error, "_row");
    bool delivered = row && row != Py_None;
    PyErr_Clear();
    Py_XDECREF(row);
    return delivered;
}

// unraisable_hook(unraisable): a C function, because a delivery would interrupt one of Python's.
static PyObject *unraisable_hook(PyObject *module, PyObject *unraisable) {
    (void)module;
    PyObject *error = PyObject_GetAttrString(unraisable, "exc_value");
    if (!error)
        return NULL;
    Scope *here = was_delivered(error) ? memprot_open_scopes_here() : NULL;
    if (here) {
        here->raised_in_vain = here->raised_in_vain ? join(here->raised_in_vain, error) : error;
        Py_RETURN_NONE;
    }
    Py_DECREF(error);
    // A hook that was set between two scopes has ours as its predecessor.
    PyObject *next = passing ? NULL : hook_below();
    if (!next)
        next = Py_XNewRef(PySys_GetObject("__unraisablehook__"));
    passing = true;
    PyObject *result = next ? PyObject_CallOneArg(next, unraisable) : Py_NewRef(Py_None);
    passing = false;
    Py_XDECREF(next);
    return result;
}

// give_to_unraisable_hook(error, owner)
static PyObject *give_to_unraisable_hook(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *error, *owner;
    if (!PyArg_ParseTuple(args, "O!O:give_to_unraisable_hook", PyExc_BaseException, &error, &owner))
        return NULL;
    PyErr_Restore(Py_NewRef(Py_TYPE(error)), Py_NewRef(error), NULL);
    PyErr_WriteUnraisable(owner);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"give_to_unraisable_hook", give_to_unraisable_hook, METH_VARARGS, DOC_give_to_unraisable_hook},
    {"unraisable_hook", unraisable_hook, METH_O, DOC_unraisable_hook},
    {NULL, NULL, 0, NULL},
};

int memprot_add_unraised(PyObject *module) {
    if (PyModule_AddFunctions(module, methods) < 0)
        return -1;
    memprot_mutex_free_in_children(&hooking);
    own_hook = PyObject_GetAttrString(module, "unraisable_hook");
    return own_hook ? 0 : -1;
}
