// Records taken over by Python: as rows, and as the exception that stands for them.
#include "claim.h"
#include "docstrings.h"

#include "fault.h"

#include <string.h>

PyObject *memprot_claim_class;
static PyObject *error_factory;

static PyObject *python_stack(const struct memprot_record *record) {
    if (!record->interpreted)
        Py_RETURN_NONE;
    return PyBytes_FromStringAndSize(record->text, record->text_length);
}

static PyObject *block_of(const struct memprot_record *record) {
    const struct memprot_block *block = &record->block;
    if (!block->address)
        Py_RETURN_NONE;
    return Py_BuildValue("(KKI)", (unsigned long long)block->address, (unsigned long long)block->size, block->stack);
}

static PyObject *instructions(const struct memprot_record *record) {
    return PyBytes_FromStringAndSize((const char *)record->pc, record->pcs * (Py_ssize_t)sizeof *record->pc);
}

// (sequence, thread, name, signal, access, address, size, guard, block, instructions, python, folded, key, code,
// faults): stacks stay as they were written until somebody looks at them.
static PyObject *record_as_tuple(const struct memprot_record *record) {
    // The kernel cuts names off at 15 bytes, which may be within a character.
    PyObject *name = PyUnicode_DecodeUTF8(record->name, (Py_ssize_t)strlen(record->name), "replace");
    return Py_BuildValue("(KiNiiKKNNNNIiiI)", (unsigned long long)record->sequence, record->thread, name,
                         record->signal, (int)record->access, (unsigned long long)record->address,
                         (unsigned long long)record->size, PyBool_FromLong(record->guard), block_of(record),
                         instructions(record), python_stack(record), record->folded, record->key, record->code,
                         record->faults);
}

static PyObject *collect(struct memprot_record *(*next)(int, bool), int owner, bool anyone) {
    PyObject *list = PyList_New(0);
    struct memprot_record *record;
    while (list && (record = next(owner, anyone)) != NULL) {
        PyObject *item = record_as_tuple(record);
        memprot_record_free(record);
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

// Handlers set the field, of this thread or of those that work for it; nothing is set by whoever finds it set.
bool memprot_claim_withdraw(void) {
    PyObject *ours = memprot_claim_class;
    return ours && __atomic_compare_exchange_n(&PyThreadState_Get()->async_exc, &ours, NULL, false, __ATOMIC_SEQ_CST,
                                               __ATOMIC_SEQ_CST);
}

PyObject *memprot_claim(bool anyone) {
    memprot_claim_withdraw();
    return collect(memprot_record_claim, memprot_fault_thread(), anyone);
}

PyObject *memprot_claim_error(PyObject *records) {
    PyObject *error = PyObject_CallOneArg(error_factory, records);
    if (error && !PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "the error factory returned %R, which is no exception", error);
        Py_CLEAR(error);
    }
    return error;
}

static struct memprot_record *claim_any(int owner, bool anyone) {
    (void)owner, (void)anyone;
    return memprot_record_claim_any();
}

static PyObject *fault_claim_all(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return collect(claim_any, 0, true);
}

static PyObject *fault_claim_unowned(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return collect(memprot_record_claim, MEMPROT_OWNER_ANYONE, true);
}

static PyObject *fault_waiting(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyLong_FromLong(memprot_record_waiting());
}

static PyObject *fault_count(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyLong_FromUnsignedLongLong(memprot_record_faults());
}

// set_delivery(class, error_factory)
static PyObject *set_delivery(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *class, *factory;
    if (!PyArg_ParseTuple(args, "OO:set_delivery", &class, &factory))
        return NULL;
    // A delivery that a handler sets takes a reference without counting it.
#if PY_VERSION_HEX >= 0x030c0000
    Py_SET_REFCNT(class, _Py_IMMORTAL_REFCNT);
#else
    Py_SET_REFCNT(class, Py_REFCNT(class) + ((Py_ssize_t)1 << 48));
#endif
    memprot_claim_class = Py_NewRef(class);
    Py_XSETREF(error_factory, Py_NewRef(factory));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"fault_claim_all", fault_claim_all, METH_NOARGS, DOC_fault_claim_all},
    {"fault_claim_unowned", fault_claim_unowned, METH_NOARGS, DOC_fault_claim_unowned},
    {"fault_waiting", fault_waiting, METH_NOARGS, DOC_fault_waiting},
    {"fault_count", fault_count, METH_NOARGS, DOC_fault_count},
    {"set_delivery", set_delivery, METH_VARARGS, DOC_set_delivery},
    {NULL, NULL, 0, NULL},
};

int memprot_add_claim(PyObject *module) { return PyModule_AddFunctions(module, methods); }
