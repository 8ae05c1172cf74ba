#include "call.h"

#include "calls.h"
#include "docstrings.h"

#include <errno.h>

// The callable that makes the exception of a failed call; NULL: OSError.
static PyObject *error_factory;

int memprot_call_gather(const struct memprot_call *call, PyObject *const *arguments, Py_ssize_t positional,
                        PyObject *keywords, PyObject **ret) {
    if (positional > call->count) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d arguments, not %zd", call->name, call->count, positional);
        return -1;
    }
    for (int i = 0; i < call->count; i++)
        ret[i] = i < positional ? arguments[i] : NULL;
    Py_ssize_t named = keywords == NULL ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t k = 0; k < named; k++) {
        PyObject *keyword = PyTuple_GET_ITEM(keywords, k);
        int i = 0;
        while (i < call->count && PyUnicode_CompareWithASCIIString(keyword, call->parameters[i]) != 0)
            i++;
        if (i == call->count || ret[i] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got %s argument '%U'", call->name,
                         i == call->count ? "an unknown" : "two values for the", keyword);
            return -1;
        }
        ret[i] = arguments[positional + k];
    }
    for (int i = 0; i < call->required; i++) {
        if (ret[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() needs the argument '%s'", call->name, call->parameters[i]);
            return -1;
        }
    }
    return 0;
}

int memprot_call_word(const struct memprot_call *call, int i, PyObject *object, uint64_t *ret) {
    int negative;
    return memprot_as_number(call->name, call->parameters[i], object, &negative, ret);
}

PyObject *memprot_call_name(const struct memprot_call *call, int i, PyObject *object) {
    if (!PyUnicode_Check(object) && !PyBytes_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s() argument '%s' must be str or bytes, not %.200s", call->name,
                     call->parameters[i], Py_TYPE(object)->tp_name);
        return NULL;
    }
    PyObject *bytes;
    return PyUnicode_FSConverter(object, &bytes) ? bytes : NULL;
}

PyObject *memprot_call_items(const struct memprot_call *call, int i, PyObject *object) {
    PyObject *items = PySequence_Tuple(object);
    if (items == NULL && Py_TYPE(object)->tp_iter == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError, "%s() argument '%s' must be an iterable, not %.200s", call->name,
                     call->parameters[i], Py_TYPE(object)->tp_name);
    }
    return items;
}

int memprot_call_item(const struct memprot_call *call, int i, Py_ssize_t index, PyObject *item, uint64_t *ret) {
    char parameter[64];
    int negative;
    PyOS_snprintf(parameter, sizeof parameter, "%s[%zd]", call->parameters[i], index);
    return memprot_as_number(call->name, parameter, item, &negative, ret);
}

bool memprot_always_long(const uint64_t *Py_UNUSED(words)) { return true; }

bool memprot_is_long_range(const uint64_t *words) { return words[1] > MEMPROT_LONG_RANGE; }

long memprot_call_make(const struct memprot_call *call, const uint64_t *words, int *error) {
    long result;
    if (call->is_long == NULL || !call->is_long(words)) {
        result = memprot_syscall(call->number, words);
        *error = errno;
    } else {
        Py_BEGIN_ALLOW_THREADS;
        result = memprot_syscall(call->number, words);
        *error = errno;
        Py_END_ALLOW_THREADS;
    }
    return result;
}

// The arguments as they were meant: with the defaults of those that were left out.
static PyObject *argument_tuple(const struct memprot_call *call, PyObject *const *gathered) {
    PyObject *tuple = PyTuple_New(call->count);
    for (int i = 0; tuple != NULL && i < call->count; i++) {
        PyObject *item = gathered[i] != NULL ? Py_NewRef(gathered[i]) : PyLong_FromLong(call->defaults[i]);
        if (item == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, item);
    }
    return tuple;
}

static PyObject *made_error(const struct memprot_call *call, PyObject *const *gathered, int error) {
    PyObject *tuple = argument_tuple(call, gathered);
    if (tuple == NULL)
        return NULL;
    PyObject *made = PyObject_CallFunction(error_factory, "isO", error, call->name, tuple);
    Py_DECREF(tuple);
    if (made != NULL && !PyExceptionInstance_Check(made)) {
        PyErr_Format(PyExc_TypeError, "the error factory must return an exception, not %.200s", Py_TYPE(made)->tp_name);
        Py_CLEAR(made);
    }
    return made;
}

PyObject *memprot_call_failed(const struct memprot_call *call, PyObject *const *gathered, int error) {
    if (error_factory != NULL) {
        PyObject *made = made_error(call, gathered, error);
        if (made != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(made), made);
            Py_DECREF(made);
            return NULL;
        }
        // Where memory is so short that the full error cannot be made, the plain one may still fit.
        if (!PyErr_ExceptionMatches(PyExc_MemoryError))
            return NULL;
        PyErr_Clear();
    }
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

// Everything from the arguments to the result; -1 with an exception set.
static long made_of_ints(const struct memprot_call *call, PyObject *const *arguments, Py_ssize_t positional,
                         PyObject *keywords) {
    PyObject *gathered[MEMPROT_PARAMETERS];
    uint64_t words[MEMPROT_PARAMETERS] = {0};
    if (memprot_call_gather(call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(call, gathered, 0, call->count, words) < 0)
        return -1;
    int error;
    long result = memprot_call_make(call, words, &error);
    if (result == -1)
        memprot_call_failed(call, gathered, error);
    return result;
}

PyObject *memprot_call_none(const struct memprot_call *call, PyObject *const *arguments, Py_ssize_t positional,
                            PyObject *keywords) {
    if (made_of_ints(call, arguments, positional, keywords) == -1)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *memprot_call_int(const struct memprot_call *call, PyObject *const *arguments, Py_ssize_t positional,
                           PyObject *keywords) {
    long result = made_of_ints(call, arguments, positional, keywords);
    return result == -1 ? NULL : PyLong_FromLong(result);
}

static PyObject *set_error_factory(PyObject *Py_UNUSED(module), PyObject *factory) {
    if (factory != Py_None && !PyCallable_Check(factory)) {
        PyErr_Format(PyExc_TypeError, "set_error_factory() needs a callable or None, not %.200s",
                     Py_TYPE(factory)->tp_name);
        return NULL;
    }
    Py_XSETREF(error_factory, factory == Py_None ? NULL : Py_NewRef(factory));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"set_error_factory", set_error_factory, METH_O, DOC_set_error_factory},
    {NULL, NULL, 0, NULL},
};

int memprot_add_calls(PyObject *module) {
    PyMethodDef *const groups[] = {
        methods,
        memprot_advice_calls,
        memprot_break_calls,
        memprot_file_calls,
        memprot_key_calls,
        memprot_locking_calls,
        memprot_mapping_calls,
        memprot_numa_calls,
        memprot_process_calls,
        memprot_protection_calls,
    };
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        if (PyModule_AddFunctions(module, groups[i]) < 0)
            return -1;
    }
    return 0;
}
