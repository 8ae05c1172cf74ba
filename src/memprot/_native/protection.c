// Protection: a change of protection on the pages of any buffer, for the length of a scope or until it is undone.
//
// Entering and leaving are C functions because a pending delivery would interrupt a Python function before its first
// statement, and leave the pages as they are.
#include "binding.h"
#include "docstrings.h"

#include "buffer.h"
#include "critical_section.h"
#include "engine.h"

#include "page.h"
#include "protection.h"

#include <errno.h>
#include <string.h>
#include <structmember.h>

enum { LONG_RANGE = 256 }; // pages; other threads run meanwhile

enum phase { PREPARED, IN_EFFECT, OVER };

typedef struct Protection {
    PyObject_HEAD Py_buffer view; // held from the start to the end: the memory can neither be freed nor resized
    PyObject *given;              // what the scope's `as` names
    uint64_t address, size;       // the bytes, from the lowest to the highest
    bool contiguous, raw;
    uint64_t prot;
    struct memprot_arming arming;
    struct memprot_protection core;
    enum phase phase;
    struct Protection *next;
} Protection;

// Those that no scope will undo: each owns a reference to itself, and with it the buffer, so that the memory is not
// used for anything else while it is protected. Changed and walked under the mutex; everything else of an object is
// touched in its own critical section.
static Protection *kept;
static memprot_mutex keeping;

// What makes the exceptions: refused(errno, start, length, prot) and lost(kind, start, stop, prot, errno).
static PyObject *refused, *lost;

// ---- the target

static PyObject *protection_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    PyObject *target, *prot, *given = NULL;
    int negative;
    if ((keywords && PyDict_GET_SIZE(keywords)) || !PyArg_UnpackTuple(args, "Protection", 2, 3, &target, &prot, &given))
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "Protection() takes no keywords");
    Protection *self = (Protection *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    if (memprot_as_number("protect", "prot", prot, &negative, &self->prot) < 0 ||
        memprot_buffer_take(target, &self->view, &self->raw) < 0) {
        self->phase = OVER;
        Py_DECREF(self);
        return NULL;
    }
    self->given = Py_NewRef(given ? given : target);
    if (self->view.suboffsets) {
        PyErr_SetString(PyExc_ValueError, "the buffer is a table of pointers to rows; protect each of the rows");
        Py_DECREF(self);
        return NULL;
    }
    memprot_buffer_span(&self->view, &self->address, &self->size);
    self->contiguous = PyBuffer_IsContiguous(&self->view, 'A');
    self->core.start = self->size ? memprot_page_floor(self->address) : self->address;
    self->core.stop = self->size ? memprot_page_ceil(self->address + self->size) : self->address;
    self->arming = (struct memprot_arming){.object = self->address, .object_size = self->size};
    if (self->raw && self->contiguous && self->core.start == self->address &&
        self->core.stop == self->address + self->size) {
        self->arming.start = self->core.start;
        self->arming.stop = self->core.stop;
    }
    return (PyObject *)self;
}

static PyObject *protection_arm_inside(Protection *self, PyObject *args) {
    unsigned long long start, stop;
    if (!PyArg_ParseTuple(args, "KK:arm", &start, &stop))
        return NULL;
    self->arming.start = start;
    self->arming.stop = stop;
    Py_RETURN_NONE;
}

static MEMPROT_CRITICAL(PyObject *, protection_arm, (Protection * self, PyObject *args), self, self, args)

    // ---- beginning and ending

    static bool is_long(const Protection *self) {
    return (self->core.stop - self->core.start) / memprot_page_size() >= LONG_RANGE;
}

#define WITHOUT_INTERPRETER(self, statement)                                                                           \
    do {                                                                                                               \
        PyThreadState *state = is_long(self) ? PyEval_SaveThread() : NULL;                                             \
        statement;                                                                                                     \
        int error = errno;                                                                                             \
        if (state)                                                                                                     \
            PyEval_RestoreThread(state);                                                                               \
        errno = error;                                                                                                 \
    } while (0)

static void let_go(Protection *self) {
    if (self->phase == IN_EFFECT) {
        memprot_protection_deinit(&self->core);
        memprot_engine_release();
    }
    if (self->phase != OVER) {
        self->phase = OVER;
        PyBuffer_Release(&self->view);
    }
}

// One that has been undone meanwhile in [start, stop), taken off the list.
static Protection *take_settled(uint64_t start, uint64_t stop) {
    MEMPROT_LOCK(&keeping);
    Protection **link = &kept, *one;
    while ((one = *link) != NULL &&
           !(one->core.start < stop && start < one->core.stop && memprot_protection_is_settled(&one->core)))
        link = &one->next;
    if (one)
        *link = one->next;
    MEMPROT_UNLOCK(&keeping);
    return one;
}

// Lets go of them. That runs others' code, so each time the list is looked at anew.
static void settle(uint64_t start, uint64_t stop) {
    Protection *one;
    while (__atomic_load_n(&kept, __ATOMIC_RELAXED) && (one = take_settled(start, stop)) != NULL) {
        let_go(one);
        Py_DECREF(one);
    }
}

static PyObject *raise(PyObject *error) {
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return NULL;
}

static PyObject *raise_loss(const struct memprot_loss *loss) {
    return raise(PyObject_CallFunction(lost, "iKKii", (int)loss->kind, (unsigned long long)loss->start,
                                       (unsigned long long)loss->stop, loss->prot, loss->error));
}

// The error is made while memory is as the kernel left it: that is what it speaks of.
static PyObject *refusal(Protection *self, int error) {
    return PyObject_CallFunction(refused, "iKKK", error, (unsigned long long)self->core.start,
                                 (unsigned long long)(self->core.stop - self->core.start),
                                 (unsigned long long)self->prot);
}

// Puts back what was applied before the kernel refused, and takes it out of the error. Takes over the reference.
static PyObject *undo(Protection *self, PyObject *error) {
    struct memprot_loss loss;
    WITHOUT_INTERPRETER(self, memprot_protection_put_back(&self->core, &loss));
    if (!error || loss.kind != MEMPROT_LOSS_NONE)
        return error;
    PyObject *none = PyTuple_New(0);
    if (!none || PyObject_SetAttrString(error, "applied", none) < 0)
        Py_CLEAR(error);
    Py_XDECREF(none);
    return error;
}

// 0 in effect, 1 refused by the kernel with errno set and whatever was applied still so, -1 nothing done and an
// exception set.
static int begin(Protection *self, bool in_scope) {
    if (self->phase != PREPARED) {
        PyErr_SetString(PyExc_RuntimeError, "this scope has been entered before; make another one with protected()");
        return -1;
    }
    uint64_t start = self->core.start, stop = self->core.stop;
    if (memprot_engine_hold() < 0)
        return -1;
    int status;
    WITHOUT_INTERPRETER(
        self, status = memprot_protection_begin(&self->core, start, stop, &self->arming, self->prot, in_scope));
    if (status < 0) {
        struct memprot_loss unread = {.kind = MEMPROT_LOSS_NONE, .start = start, .stop = stop, .error = errno};
        memprot_engine_release();
        raise_loss(&unread);
        return -1;
    }
    self->phase = IN_EFFECT;
    return status;
}

static PyObject *protection_enter_inside(Protection *self) {
    int status = begin(self, true);
    if (status == 0)
        return Py_NewRef(self->given);
    if (status < 0)
        return NULL;
    PyObject *error = undo(self, refusal(self, errno));
    let_go(self);
    return raise(error);
}

static MEMPROT_CRITICAL(PyObject *, protection_enter, (Protection * self, PyObject *Py_UNUSED(unused)), self, self)

    static PyObject *end(Protection *self) {
    struct memprot_loss loss;
    uint64_t start = self->core.start, stop = self->core.stop;
    WITHOUT_INTERPRETER(self, memprot_protection_put_back(&self->core, &loss));
    let_go(self);
    settle(start, stop);
    if (loss.kind != MEMPROT_LOSS_NONE)
        return raise_loss(&loss);
    Py_RETURN_NONE;
}

static PyObject *protection_exit_inside(Protection *self) {
    if (self->phase != IN_EFFECT)
        return PyErr_Format(PyExc_RuntimeError, "this scope is not open");
    return end(self);
}

static MEMPROT_CRITICAL(PyObject *, protection_exit,
                        (Protection * self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(count)), self, self)

    // keep(atomic): until it is undone.
    static PyObject *protection_keep_inside(Protection *self, PyObject *atomic) {
    uint64_t start = self->core.start, stop = self->core.stop;
    int whole = PyObject_IsTrue(atomic);
    int status = whole < 0 ? -1 : begin(self, false);
    if (status < 0)
        return NULL;
    PyObject *error = NULL;
    if (status > 0) {
        error = refusal(self, errno);
        if (whole)
            error = undo(self, error);
    }
    if ((status > 0 && whole) || memprot_protection_takes_nothing(&self->core, self->prot)) {
        let_go(self);
    } else {
        Py_INCREF(self);
        MEMPROT_LOCK(&keeping);
        self->next = kept;
        kept = self;
        MEMPROT_UNLOCK(&keeping);
    }
    settle(start, stop);
    if (status > 0)
        return raise(error);
    Py_RETURN_NONE;
}

static MEMPROT_CRITICAL(PyObject *, protection_keep, (Protection * self, PyObject *atomic), self, self, atomic)

    static void protection_dealloc(Protection *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (self->phase == IN_EFFECT && self->core.in_scope) {
        // Entered by hand and never left.
        PyObject *error_type, *value, *traceback;
        PyErr_Fetch(&error_type, &value, &traceback);
        PyObject *result = end(self);
        if (!result)
            PyErr_WriteUnraisable(NULL);
        Py_XDECREF(result);
        PyErr_Restore(error_type, value, traceback);
    }
    let_go(self);
    Py_XDECREF(self->given);
    type->tp_free(self);
    Py_DECREF(type);
}

// ---- the type

static PyObject *protection_get_pages(Protection *self, void *unused) {
    (void)unused;
    return Py_BuildValue("(KK)", (unsigned long long)self->core.start, (unsigned long long)self->core.stop);
}

static PyObject *protection_get_whole(Protection *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->raw && self->contiguous && self->core.start == self->address &&
                           self->core.stop == self->address + self->size);
}

static PyObject *close_open_pages(PyObject *module, PyObject *args) {
    (void)module;
    unsigned long long start, stop;
    if (!PyArg_ParseTuple(args, "KK:close_open_pages", &start, &stop))
        return NULL;
    if (memprot_armed_close(start, stop) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *set_protection_errors(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *of_kernel, *of_loss;
    if (!PyArg_ParseTuple(args, "OO:set_protection_errors", &of_kernel, &of_loss))
        return NULL;
    Py_XSETREF(refused, Py_NewRef(of_kernel));
    Py_XSETREF(lost, Py_NewRef(of_loss));
    Py_RETURN_NONE;
}

static PyMethodDef protection_methods[] = {
    {"__enter__", (PyCFunction)protection_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))protection_exit, METH_FASTCALL, NULL},
    {"arm", (PyCFunction)protection_arm, METH_VARARGS, DOC_Protection_arm},
    {"keep", (PyCFunction)protection_keep, METH_O, DOC_Protection_keep},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef protection_attributes[] = {
    {"pages", (getter)protection_get_pages, NULL, DOC_Protection_pages, NULL},
    {"whole", (getter)protection_get_whole, NULL, DOC_Protection_whole, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef protection_members[] = {
    {"address", T_ULONGLONG, offsetof(Protection, address), READONLY, DOC_Protection_address},
    {"size", T_ULONGLONG, offsetof(Protection, size), READONLY, DOC_Protection_size},
    {"contiguous", T_BOOL, offsetof(Protection, contiguous), READONLY, DOC_Protection_contiguous},
    {"raw", T_BOOL, offsetof(Protection, raw), READONLY, DOC_Protection_raw},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot protection_slots[] = {
    {Py_tp_doc, (char *)DOC_Protection},
    {Py_tp_new, protection_new},
    {Py_tp_dealloc, protection_dealloc},
    {Py_tp_methods, protection_methods},
    {Py_tp_getset, protection_attributes},
    {Py_tp_members, protection_members},
    {0, NULL},
};

static PyType_Spec protection_spec = {
    .name = "memprot._native.Protection",
    .basicsize = sizeof(Protection),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = protection_slots,
};

static PyMethodDef methods[] = {
    {"close_open_pages", close_open_pages, METH_VARARGS, DOC_close_open_pages},
    {"set_protection_errors", set_protection_errors, METH_VARARGS, DOC_set_protection_errors},
    {NULL, NULL, 0, NULL},
};

int memprot_add_protection(PyObject *module) {
    memprot_mutex_free_in_children(&keeping);
    PyObject *type = PyType_FromSpec(&protection_spec);
    if (!type)
        return -1;
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return failed ? failed : PyModule_AddFunctions(module, methods);
}
