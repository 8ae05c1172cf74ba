// Scopes: while one is open its policy says what becomes of faults, and when it ends what is its to raise is raised.
//
// Entering and leaving are C functions because a pending delivery would interrupt a Python function before
// its first statement, and leave the scope open.
//
// A scope is its thread's and its context's, in which an asyncio task runs. It may end, or be collected, elsewhere:
// with a generator around it, for one.
#include "scope.h"
#include "docstrings.h"

#include "claim.h"
#include "delivery.h"
#include "engine.h"
#include "interpreter.h"
#include "kernel_error.h"
#include "open_scopes.h"
#include "policy_names.h"
#include "unraised.h"

#include "fault.h"

static PyObject *raise_policy; // the str "raise"

static PyObject *new_scope(PyTypeObject *type, PyObject *policy) {
    enum memprot_policy number = MEMPROT_POLICY_RAISE;
    if (policy && memprot_policy_from(policy, &number) < 0)
        return NULL;
    Scope *self = PyObject_GC_New(Scope, type);
    if (!self)
        return NULL;
    self->core = memprot_scope_create();
    self->faults = NULL;
    self->context = NULL;
    self->raised_in_vain = NULL;
    self->policy = number;
    self->given = Py_NewRef(policy ? policy : raise_policy);
    self->open = false;
    if (!self->core) {
        Py_DECREF(self);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    memprot_open_scopes_add(self);
    if (number == MEMPROT_POLICY_ASK) // else nothing that it refers to refers to anything, until it has a fault
        PyObject_GC_Track(self);
    return (PyObject *)self;
}

static PyObject *scope_call(PyObject *type, PyObject *const *args, size_t flags, PyObject *keywords) {
    Py_ssize_t count = PyVectorcall_NARGS(flags), named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    if (count + named > 1)
        return PyErr_Format(PyExc_TypeError, "catch_faults() takes one argument, policy, but %zd were given",
                            count + named);
    if (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, 0), "policy") != 0)
        return PyErr_Format(PyExc_TypeError, "catch_faults() has no argument %R; its only one is policy",
                            PyTuple_GET_ITEM(keywords, 0));
    return new_scope((PyTypeObject *)type, count + named ? args[0] : NULL);
}

static void close_scope(Scope *self) {
    if (!self->open)
        return;
    self->open = false;
    memprot_scope_close(self->core);
    memprot_engine_leave_scope();
    Py_CLEAR(self->context);
}

static int scope_traverse(Scope *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->given);
    Py_VISIT(self->faults);
    Py_VISIT(self->raised_in_vain);
    return 0;
}

static int scope_clear(Scope *self) {
    PyObject *faults = NULL;
    memprot_open_scopes_swap_faults(self, &faults);
    Py_XDECREF(faults);
    Py_CLEAR(self->raised_in_vain);
    return 0;
}

// A scope that was given up without an end.
static void tell_raised_in_vain(Scope *self) {
    PyObject *type, *value, *traceback, *error = self->raised_in_vain;
    if (!error)
        return;
    self->raised_in_vain = NULL;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    PyErr_WriteUnraisable(NULL);
    Py_DECREF(error);
    PyErr_Restore(type, value, traceback);
}

static void scope_dealloc(Scope *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_GC_IsTracked((PyObject *)self))
        PyObject_GC_UnTrack(self);
    close_scope(self);
    if (self->core) {
        memprot_scope_end(self->core);
        memprot_open_scopes_remove(self);
        memprot_scope_destroy(self->core);
    }
    Py_XDECREF(self->faults);
    tell_raised_in_vain(self);
    Py_XDECREF(self->given);
    type->tp_free(self);
    Py_DECREF(type);
}

// A context of the thread's own is made when it is first asked for; what is a scope's must not change its name then.
static PyObject *own_context(void) {
    PyThreadState *thread = PyThreadState_Get();
    if (!thread->context) {
        PyObject *copy = PyContext_CopyCurrent();
        if (!copy)
            return NULL;
        Py_DECREF(copy);
    }
    return Py_NewRef(thread->context);
}

static PyObject *scope_enter(Scope *self, PyObject *unused) {
    (void)unused;
    if (self->open)
        return PyErr_Format(PyExc_RuntimeError,
                            "this scope is open already; make another catch_faults() for a nested one");
    PyObject *context = own_context();
    if (!context || memprot_engine_enter_scope() < 0) {
        Py_XDECREF(context);
        return NULL;
    }
    self->context = context;
    int thread = memprot_fault_thread();
    if (memprot_record_waiting() > 0)
        memprot_record_settle(thread); // else accesses to pages that are open would fall under the policy of before
    memprot_scope_open(self->core, thread, (uintptr_t)self->context, self->policy);
    self->open = true;
    memprot_engine_watch_calls();
    return Py_NewRef(self);
}

// What was claimed as an exception, remembered by the scope; NULL without an exception set when there is nothing. Takes
// over the reference to the list, NULL where claiming failed.
static PyObject *error_of(PyObject *list, Scope *scope) {
    PyObject *error = NULL;
    if (list && PyList_GET_SIZE(list) > 0) {
        error = memprot_claim_error(list);
        bool is_fault = error && PyObject_HasAttrString(error, "others"); // and not what a policy raised of its own
        if (is_fault && scope && memprot_open_scopes_remember(scope, error) < 0)
            Py_CLEAR(error);
    }
    Py_XDECREF(list);
    return PyErr_Occurred() ? NULL : memprot_unraised_join(scope, error);
}

static PyObject *raise_or_none(PyObject *error) {
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

// Its own first: what nobody raises may tell a listener of anything that belongs to nobody.
static PyObject *claim(Scope *self, bool is_over) {
    PyObject *list = memprot_claim(MEMPROT_CLAIM_SCOPE, memprot_scope_number(self->core));
    if (is_over)
        memprot_scope_end(self->core);
    if (list && memprot_delivery_tell() < 0)
        PyErr_WriteUnraisable((PyObject *)self);
    return list;
}

static bool is_anything_waiting(const Scope *self) {
    PyThreadState *thread = PyThreadState_Get();
    return memprot_record_waiting() > 0 || self->raised_in_vain || memprot_unraised_is_armed() ||
           (thread->async_exc && thread->async_exc == memprot_claim_class);
}

static PyObject *scope_exit(Scope *self, PyObject *const *args, Py_ssize_t count) {
    if (count != 3)
        return PyErr_Format(PyExc_TypeError, "__exit__() takes a type, a value and a traceback, not %zd arguments",
                            count);
    if (!self->open)
        Py_RETURN_NONE;
    // The scope is left before anything that runs Python: even an interrupted claim leaves no scope open.
    close_scope(self);
    PyObject *value = args[1];
    bool failed = self->policy == MEMPROT_POLICY_RAISE && memprot_is_bad_address(value);
    if (!failed && !is_anything_waiting(self)) {
        memprot_scope_end(self->core);
        Py_RETURN_NONE;
    }
    Py_INCREF(self);
    PyObject *list = claim(self, true);
    if (list && memprot_unraised_disarm() < 0)
        Py_CLEAR(list);
    PyObject *error = error_of(list, self);
    if (!error && failed && !PyErr_Occurred()) {
        error = memprot_kernel_error_fault(value, memprot_open_scopes_faults(self));
        if (error && memprot_open_scopes_remember(self, error) < 0)
            Py_CLEAR(error);
    }
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
    return raise_or_none(error_of(claim(self, false), self));
}

static PyObject *scope_get_faults(Scope *self, void *unused) {
    (void)unused;
    return memprot_open_scopes_faults(self);
}

static PyObject *scope_get_policy(Scope *self, void *unused) {
    (void)unused;
    return Py_NewRef(self->given);
}

PyObject *memprot_scope_take(void) {
    Scope *here = memprot_open_scopes_here();
    if (here && memprot_unraised_arm() < 0)
        return NULL;
    return error_of(memprot_claim(MEMPROT_CLAIM_HERE, 0), here);
}

void memprot_scope_tell_strays(void) {
    PyObject *error = error_of(memprot_claim(MEMPROT_CLAIM_STRAY, 0), NULL);
    if (!error)
        return;
    PyObject *whose = PyUnicode_FromString("a task that has paused or ended");
    PyErr_Restore(Py_NewRef(Py_TYPE(error)), error, NULL);
    PyErr_WriteUnraisable(whose);
    Py_XDECREF(whose);
}

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
    {"__exit__", (PyCFunction)(void (*)(void))scope_exit, METH_FASTCALL, NULL},
    {"check", (PyCFunction)scope_check, METH_NOARGS, DOC_catch_faults_check},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef scope_attributes[] = {
    {"faults", (getter)scope_get_faults, NULL, DOC_catch_faults_faults, NULL},
    {"policy", (getter)scope_get_policy, NULL, DOC_catch_faults_policy, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot scope_slots[] = {
    {Py_tp_doc, (char *)DOC_catch_faults},
    {Py_tp_dealloc, scope_dealloc},
    {Py_tp_traverse, scope_traverse},
    {Py_tp_clear, scope_clear},
    {Py_tp_methods, scope_methods},
    {Py_tp_getset, scope_attributes},
    {0, NULL},
};

static PyType_Spec scope_spec = {
    .name = "memprot.catch_faults",
    .basicsize = sizeof(Scope),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = scope_slots,
};

static PyMethodDef methods[] = {
    {"fault_take", fault_take, METH_NOARGS, DOC_fault_take},
    {NULL, NULL, 0, NULL},
};

int memprot_add_scope(PyObject *module) {
    PyObject *type = PyType_FromSpec(&scope_spec);
    raise_policy = PyUnicode_InternFromString("raise");
    if (!type || !raise_policy)
        return -1;
    // Without a tuple for its arguments, and the only way to make one.
    ((PyTypeObject *)type)->tp_vectorcall = scope_call;
    int failed = PyModule_AddObjectRef(module, "catch_faults", type);
    Py_DECREF(type);
    return failed ? failed : PyModule_AddFunctions(module, methods);
}
