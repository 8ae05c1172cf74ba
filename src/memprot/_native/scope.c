// Scopes: while one is open faults are recovered, and when it ends what its thread has recorded is raised.
//
// Entering and leaving are C functions because a pending delivery would interrupt a Python function before
// its first statement, and leave the scope open.
#include "scope.h"
#include "docstrings.h"

#include "engine.h"
#include "unraised.h"

#include "claim.h"
#include "fault.h"

#include <structmember.h>

typedef struct Scope {
    PyObject_HEAD PyObject *faults; // list
    struct Scope *older;
    const char *thread;
    bool open;
} Scope;

// The open scopes of all threads, newest first. Touched with the interpreter held. A scope may end, or be
// collected, in another thread than it began in: with a generator around it, for one.
static Scope *newest;

// Its address stands for the thread.
static _Thread_local char this_thread;

static Scope *innermost(void) {
    Scope *scope = newest;
    while (scope && scope->thread != &this_thread)
        scope = scope->older;
    return scope;
}

static PyObject *scope_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    if (PyTuple_GET_SIZE(args) || (keywords && PyDict_GET_SIZE(keywords)))
        return PyErr_Format(PyExc_TypeError, "catch_faults() takes no arguments");
    Scope *self = (Scope *)type->tp_alloc(type, 0);
    if (self && !(self->faults = PyList_New(0)))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void leave(Scope *self) {
    if (!self->open)
        return;
    self->open = false;
    for (Scope **link = &newest; *link; link = &(*link)->older) {
        if (*link == self) {
            *link = self->older;
            break;
        }
    }
    memprot_fault_leave_scope();
    memprot_engine_release();
}

static void scope_dealloc(Scope *self) {
    PyTypeObject *type = Py_TYPE(self);
    leave(self);
    Py_XDECREF(self->faults);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *scope_enter(Scope *self, PyObject *unused) {
    (void)unused;
    if (self->open)
        return PyErr_Format(PyExc_RuntimeError,
                            "this scope is open already; make another catch_faults() for a nested one");
    if (memprot_unraised_arm() < 0 || memprot_engine_acquire() < 0)
        return NULL;
    memprot_fault_enter_scope();
    self->open = true;
    self->thread = &this_thread;
    self->older = newest;
    newest = self;
    memprot_engine_watch_calls();
    return Py_NewRef(self);
}

// What was claimed as an exception, remembered by the scope; NULL without an exception set when there is nothing. Takes
// over the reference to the records, NULL where claiming failed.
static PyObject *error_of(PyObject *records, Scope *scope) {
    PyObject *error = NULL;
    if (records && PyList_GET_SIZE(records) > 0) {
        error = memprot_claim_error(records);
        if (error && scope && PyList_Append(scope->faults, error) < 0)
            Py_CLEAR(error);
    }
    Py_XDECREF(records);
    return PyErr_Occurred() ? NULL : memprot_unraised_join(error);
}

static PyObject *take(Scope *scope, bool anyone) { return error_of(memprot_claim(anyone), scope); }

static PyObject *raise_or_none(PyObject *error) {
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyObject *scope_exit(Scope *self, PyObject *args) {
    PyObject *type, *value, *traceback;
    if (!PyArg_ParseTuple(args, "OOO:__exit__", &type, &value, &traceback))
        return NULL;
    Py_INCREF(self);
    // The scope is left before anything that runs Python: even an interrupted claim leaves no scope open.
    PyObject *records = memprot_claim(true);
    leave(self);
    if (records && memprot_unraised_disarm() < 0)
        Py_CLEAR(records);
    PyObject *error = error_of(records, self);
    if (error && PyObject_HasAttrString(value, "others") && Py_TYPE(value) == Py_TYPE(error)) {
        // The block is being left by a fault already: what came on top of it goes along.
        PyObject *merged = PyObject_CallMethod(value, "_join", "N", error);
        Py_XDECREF(merged);
        error = NULL;
    }
    Py_DECREF(self);
    return raise_or_none(error);
}

static PyObject *scope_check(Scope *self, PyObject *unused) {
    (void)unused;
    return raise_or_none(take(self, true));
}

static PyObject *scope_get_faults(Scope *self, void *unused) {
    (void)unused;
    return PyList_AsTuple(self->faults);
}

PyObject *memprot_scope_take(void) { return take(innermost(), false); }

// fault_take() -> the calling thread's faults as one exception, or None
static PyObject *fault_take(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    PyObject *error = memprot_scope_take();
    if (error || PyErr_Occurred())
        return error;
    Py_RETURN_NONE;
}

static PyMethodDef scope_methods[] = {
    {"__enter__", (PyCFunction)scope_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)scope_exit, METH_VARARGS, NULL},
    {"check", (PyCFunction)scope_check, METH_NOARGS, DOC_catch_faults_check},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef scope_attributes[] = {
    {"faults", (getter)scope_get_faults, NULL, DOC_catch_faults_faults, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot scope_slots[] = {
    {Py_tp_doc, (char *)DOC_catch_faults}, {Py_tp_new, scope_new},           {Py_tp_dealloc, scope_dealloc},
    {Py_tp_methods, scope_methods},        {Py_tp_getset, scope_attributes}, {0, NULL},
};

static PyType_Spec scope_spec = {
    .name = "memprot.catch_faults",
    .basicsize = sizeof(Scope),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = scope_slots,
};

static PyMethodDef methods[] = {
    {"fault_take", fault_take, METH_NOARGS, DOC_fault_take},
    {NULL, NULL, 0, NULL},
};

int memprot_add_scope(PyObject *module) {
    PyObject *type = PyType_FromSpec(&scope_spec);
    if (!type)
        return -1;
    int failed = PyModule_AddObjectRef(module, "catch_faults", type);
    Py_DECREF(type);
    return failed ? failed : PyModule_AddFunctions(module, methods);
}
