// Records taken over by Python: as rows, and as the exception that stands for them.
#include "claim.h"
#include "docstrings.h"

#include "interpreter.h"
#include "place.h"

#include "fault.h"
#include "suppression.h"

#include <errno.h>
#include <string.h>

PyObject *memprot_claim_class;
static PyObject *error_factory, *decider;

static PyObject *python_stack(const struct memprot_record *record) {
    if (!record->interpreted)
        Py_RETURN_NONE;
    return PyBytes_FromStringAndSize(record->text, record->text_length);
}

static PyObject *origin_of(const struct memprot_origin *origin) {
    return Py_BuildValue("(IIi)", origin->python, origin->native, origin->thread);
}

// One element a field of NativeBlock in native_block.py.
static PyObject *block_of(const struct memprot_record *record) {
    const struct memprot_block *block = &record->block;
    if (!block->address)
        Py_RETURN_NONE;
    return Py_BuildValue("(KKNNNi)", (unsigned long long)block->address, (unsigned long long)block->size,
                         origin_of(&block->allocated), origin_of(&block->freed), PyBool_FromLong(block->is_freed),
                         block->pooled ? (int)block->owner : -1);
}

static PyObject *instructions(const struct memprot_record *record) {
    return PyBytes_FromStringAndSize((const char *)record->pc, record->pcs * (Py_ssize_t)sizeof *record->pc);
}

static PyObject *bytes_or_none(const unsigned char *bytes, uint32_t size) {
    return size ? PyBytes_FromStringAndSize((const char *)bytes, size) : Py_NewRef(Py_None);
}

// One argument a field of NativeRecord in native_record.py, in its order: stacks stay as they were written until
// somebody looks at them.
static PyObject *record_as_tuple(const struct memprot_record *record) {
    // The kernel cuts names off at 15 bytes, which may be within a character.
    PyObject *name = PyUnicode_DecodeUTF8(record->name, (Py_ssize_t)strlen(record->name), "replace");
    // clang-format off
    return Py_BuildValue(
        "(" "KiNiiKKN" "NNNIiizL" "iiiI" "KNNii" ")",
        (unsigned long long)record->sequence,
        record->thread,
        name,
        record->signal,
        (int)record->access,
        (unsigned long long)record->address,
        (unsigned long long)record->size,
        PyBool_FromLong(record->guard),
        block_of(record),
        instructions(record),
        python_stack(record),
        record->folded,
        record->key,
        record->code,
        record->call,
        (long long)record->transferred,
        (int)record->ruling.policy,
        record->ruling.source,
        record->ruling.scope,
        record->faults,
        (unsigned long long)record->time,
        bytes_or_none(record->instruction, record->instruction_size),
        bytes_or_none(record->value, record->value_size),
        record->prot,
        (int)record->finding);
    // clang-format on
}

struct claimer {
    enum memprot_claim which;
    int scope;
    struct memprot_place place;
};

static bool is_of_scope_here(int owner, const struct claimer *claimer) {
    return owner < 0 &&
           memprot_scope_is_here(memprot_scope_of(-owner), claimer->place.thread, memprot_outer_context_of);
}

// A decision that no scope's end will ask for is asked for by whoever tells the listeners.
static bool is_for_listeners(const struct memprot_record *record, int owner) {
    if (owner == MEMPROT_OWNER_LISTENERS || (owner > 0 && record->ruling.policy == MEMPROT_POLICY_ASK))
        return true;
    return (owner == MEMPROT_OWNER_ANYONE || memprot_record_is_orphaned(owner)) && !memprot_scope_is_any_open();
}

static bool is_wanted(const struct memprot_record *record, int owner, const void *closure) {
    const struct claimer *claimer = closure;
    if (owner == MEMPROT_OWNER_DECIDER || claimer->which == MEMPROT_CLAIM_ALL)
        return owner != MEMPROT_OWNER_DECIDER;
    if (claimer->which == MEMPROT_CLAIM_LISTENERS)
        return is_for_listeners(record, owner);
    if (owner == MEMPROT_OWNER_LISTENERS)
        return false;
    bool is_here = memprot_place_is_of(&claimer->place, record);
    if (owner == claimer->place.thread)
        return is_here == (claimer->which != MEMPROT_CLAIM_STRAY);
    if (claimer->which == MEMPROT_CLAIM_HERE)
        return is_here && is_of_scope_here(owner, claimer);
    return claimer->which == MEMPROT_CLAIM_SCOPE &&
           (owner == memprot_record_owner_scope(claimer->scope) || owner == MEMPROT_OWNER_ANYONE ||
            memprot_record_is_orphaned(owner));
}

// Asks what becomes of an access; nothing to raise is None. Takes over the row.
static PyObject *decided(struct memprot_record *record, PyObject *row) {
    uint64_t sequence = record->sequence;
    int keep = 0;
    PyObject *item = NULL, *answer = row ? PyObject_CallFunctionObjArgs(decider, row, NULL) : NULL;
    if (answer && PyArg_ParseTuple(answer, "pO:decide", &keep, &item))
        Py_INCREF(item);
    Py_XDECREF(answer);
    Py_XDECREF(row);
    int lost = memprot_record_decide(record, sequence, keep);
    if (lost < 0 && item == Py_None) {
        PyObject *why =
            PyUnicode_FromFormat("what was written cannot stay, as the fault policy wants it (%s): the file "
                                 "may not be written; open it for writing",
                                 strerror(errno));
        Py_SETREF(item, why ? PyObject_CallOneArg(PyExc_ValueError, why) : NULL);
        Py_XDECREF(why);
    }
    if (lost <= 0)
        memprot_record_free(record);
    return item;
}

static int take_over(struct memprot_record *record, PyObject *list) {
    if (record->suppression) {
        atomic_fetch_add_explicit(&record->suppression->matched, 1, memory_order_relaxed);
        memprot_record_free(record);
        return 0;
    }
    bool asks = record->ruling.policy == MEMPROT_POLICY_ASK;
    PyObject *item = record_as_tuple(record);
    if (asks)
        item = decided(record, item);
    else
        memprot_record_free(record);
    int failed = !item || (item != Py_None && PyList_Append(list, item) < 0) ? -1 : 0;
    Py_XDECREF(item);
    return failed;
}

// Handlers set the field, of this thread or of those that work for it; nothing is set by whoever finds it set.
bool memprot_claim_withdraw(void) {
    PyObject *ours = memprot_claim_class;
    return ours && __atomic_compare_exchange_n(&PyThreadState_Get()->async_exc, &ours, NULL, false, __ATOMIC_SEQ_CST,
                                               __ATOMIC_SEQ_CST);
}

// What is under way to the calling thread comes to nothing unless there is still something to raise.
static void withdraw_delivery(const struct claimer *claimer) {
    struct claimer rest = {MEMPROT_CLAIM_HERE, 0, claimer->place};
    if (!memprot_record_is_waiting(is_wanted, &rest))
        memprot_claim_withdraw();
}

PyObject *memprot_claim(enum memprot_claim which, int scope) {
    struct claimer claimer = {.which = which, .scope = scope};
    PyObject *list = PyList_New(0);
    if (!list || memprot_place_look(&claimer.place) < 0) {
        Py_XDECREF(list);
        return NULL;
    }
    struct memprot_record *record;
    while (list && (record = memprot_record_claim(is_wanted, &claimer)) != NULL) {
        if (take_over(record, list) < 0)
            Py_CLEAR(list);
    }
    withdraw_delivery(&claimer);
    return list;
}

int memprot_claim_is_waiting(enum memprot_claim which, int scope) {
    struct claimer claimer = {.which = which, .scope = scope};
    if (memprot_record_waiting() == 0)
        return 0;
    return memprot_place_look(&claimer.place) < 0 ? -1 : memprot_record_is_waiting(is_wanted, &claimer);
}

PyObject *memprot_claim_error(PyObject *records) {
    PyObject *error = PyObject_CallOneArg(error_factory, records);
    if (error && !PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "the error factory returned %R, which is no exception", error);
        Py_CLEAR(error);
    }
    return error;
}

static PyObject *fault_claim_all(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return memprot_claim(MEMPROT_CLAIM_ALL, 0);
}

static PyObject *fault_claim_untold(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return memprot_claim(MEMPROT_CLAIM_LISTENERS, 0);
}

static PyObject *fault_waiting(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyLong_FromLong(memprot_record_waiting());
}

static PyObject *fault_count(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyLong_FromUnsignedLongLong(memprot_record_faults());
}

// set_delivery(class, error_factory, decider)
static PyObject *set_delivery(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *class, *factory, *decide;
    if (!PyArg_ParseTuple(args, "OOO:set_delivery", &class, &factory, &decide))
        return NULL;
    // A delivery that a handler sets takes a reference without counting it.
#if PY_VERSION_HEX >= 0x030c0000
    Py_SET_REFCNT(class, _Py_IMMORTAL_REFCNT);
#else
    Py_SET_REFCNT(class, Py_REFCNT(class) + ((Py_ssize_t)1 << 48));
#endif
    memprot_claim_class = Py_NewRef(class);
    Py_XSETREF(error_factory, Py_NewRef(factory));
    Py_XSETREF(decider, Py_NewRef(decide));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"fault_claim_all", fault_claim_all, METH_NOARGS, DOC_fault_claim_all},
    {"fault_claim_untold", fault_claim_untold, METH_NOARGS, DOC_fault_claim_untold},
    {"fault_waiting", fault_waiting, METH_NOARGS, DOC_fault_waiting},
    {"fault_count", fault_count, METH_NOARGS, DOC_fault_count},
    {"set_delivery", set_delivery, METH_VARARGS, DOC_set_delivery},
    {NULL, NULL, 0, NULL},
};

int memprot_add_claim(PyObject *module) { return PyModule_AddFunctions(module, methods); }
