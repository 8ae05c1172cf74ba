#include "open_scopes.h"
#include "critical_section.h"
#include "docstrings.h"

#include "fault.h"
#include "interpreter.h"

// Who is there, and what they remember. With one interpreter lock for all threads, that one is enough.
static memprot_mutex mutex;

void memprot_open_scopes_add(Scope *scope) {
    MEMPROT_LOCK(&mutex);
    memprot_scope_set_user(scope->core, scope);
    MEMPROT_UNLOCK(&mutex);
}

void memprot_open_scopes_remove(Scope *scope) {
    MEMPROT_LOCK(&mutex);
    memprot_scope_set_user(scope->core, NULL);
    MEMPROT_UNLOCK(&mutex);
}

// Under the lock; a scope that is being destroyed is there until it has had the lock.
static Scope *scope_of(long number) {
    struct memprot_scope *core = memprot_scope_of((int)number);
    return core ? memprot_scope_user(core) : NULL;
}

Scope *memprot_open_scopes_here(void) {
    MEMPROT_LOCK(&mutex);
    Scope *scope =
        scope_of(memprot_policy_rule(MEMPROT_POLICY_NONE, memprot_fault_thread(), memprot_outer_context_of).scope);
    MEMPROT_UNLOCK(&mutex);
    return scope;
}

// Under the lock. A fault's traceback leads to the frame of its scope, and so to the scope: from the first one on it is
// the collector's business.
static PyObject *list_of(Scope *scope) {
    if (scope && !scope->faults && Py_REFCNT(scope) > 0) {
        scope->faults = PyList_New(0);
        if (scope->faults && !PyObject_GC_IsTracked((PyObject *)scope))
            PyObject_GC_Track(scope);
    }
    return scope ? Py_XNewRef(scope->faults) : NULL;
}

// Takes over the reference; NULL where there is no list.
static int append(PyObject *faults, PyObject *error) {
    int failed = faults ? PyList_Append(faults, error) : PyErr_Occurred() ? -1 : 0;
    Py_XDECREF(faults);
    return failed;
}

int memprot_open_scopes_remember(Scope *scope, PyObject *error) {
    MEMPROT_LOCK(&mutex);
    PyObject *faults = list_of(scope);
    MEMPROT_UNLOCK(&mutex);
    return append(faults, error);
}

PyObject *memprot_open_scopes_faults(Scope *scope) {
    MEMPROT_LOCK(&mutex);
    PyObject *faults = Py_XNewRef(scope->faults);
    MEMPROT_UNLOCK(&mutex);
    PyObject *tuple = faults ? PyList_AsTuple(faults) : PyTuple_New(0);
    Py_XDECREF(faults);
    return tuple;
}

void memprot_open_scopes_swap_faults(Scope *scope, PyObject **faults) {
    MEMPROT_LOCK(&mutex);
    PyObject *now = scope->faults;
    scope->faults = *faults;
    *faults = now;
    MEMPROT_UNLOCK(&mutex);
}

// scope_remember(number, fault)
static PyObject *scope_remember(PyObject *module, PyObject *args) {
    (void)module;
    int number;
    PyObject *fault;
    if (!PyArg_ParseTuple(args, "iO:scope_remember", &number, &fault))
        return NULL;
    MEMPROT_LOCK(&mutex);
    PyObject *faults = list_of(scope_of(number));
    MEMPROT_UNLOCK(&mutex);
    if (append(faults, fault) < 0)
        return NULL;
    Py_RETURN_NONE;
}

// scope_policy(number) -> the policy it was given, or None
static PyObject *scope_policy(PyObject *module, PyObject *argument) {
    (void)module;
    long number = PyLong_AsLong(argument);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    MEMPROT_LOCK(&mutex);
    Scope *scope = scope_of(number);
    PyObject *given = Py_XNewRef(scope ? scope->given : NULL);
    MEMPROT_UNLOCK(&mutex);
    return given ? given : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"scope_policy", scope_policy, METH_O, DOC_scope_policy},
    {"scope_remember", scope_remember, METH_VARARGS, DOC_scope_remember},
    {NULL, NULL, 0, NULL},
};

int memprot_add_open_scopes(PyObject *module) {
    memprot_mutex_free_in_children(&mutex);
    return PyModule_AddFunctions(module, methods);
}
