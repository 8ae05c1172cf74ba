// The system calls as functions of ints, in the order of their man pages.
#include "binding.h"

#include "calls.h"
#include "docstrings.h"

#include <errno.h>
#include <linux/memfd.h>
#include <sys/mman.h>

enum { PARAMETERS = 6 };

// Longer than this, a call may walk so many pages that other threads should run meanwhile.
static const uint64_t LONG_RANGE = 1 << 20;

struct call {
    const char *name;
    const char *parameters[PARAMETERS + 1];
    int required, count;
    long defaults[PARAMETERS];
};

// The callable that makes the exception of a failed call; NULL: OSError.
static PyObject *error_factory;

static const char *type_name(PyObject *object) { return Py_TYPE(object)->tp_name; }

static int is_required(const struct call *call, int i) { return i < call->required; }

// Puts positional and keyword arguments in the order of the parameters; those left out are NULL.
static int gather(const struct call *call, PyObject *const *arguments, Py_ssize_t positional, PyObject *keywords,
                  PyObject **ret) {
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
    for (int i = 0; i < call->count; i++) {
        if (ret[i] == NULL && is_required(call, i)) {
            PyErr_Format(PyExc_TypeError, "%s() needs the argument '%s'", call->name, call->parameters[i]);
            return -1;
        }
    }
    return 0;
}

// A whole register from an int: unsigned, or negative as two's complement.
static int convert(const struct call *call, int i, PyObject *object, uint64_t *ret) {
    if (!PyLong_CheckExact(object) && (!PyLong_Check(object) || PyBool_Check(object))) {
        PyErr_Format(PyExc_TypeError, "%s() argument '%s' must be an int, not %.200s", call->name, call->parameters[i],
                     type_name(object));
        return -1;
    }
    *ret = PyLong_AsUnsignedLong(object);
    if (*ret != (uint64_t)-1 || !PyErr_Occurred())
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_OverflowError))
        return -1;
    PyErr_Clear();
    int overflow;
    *ret = (uint64_t)PyLong_AsLongAndOverflow(object, &overflow);
    if (overflow != 0) {
        PyErr_Format(PyExc_OverflowError, "%s() argument '%s' does not fit in 64 bits, signed or unsigned", call->name,
                     call->parameters[i]);
        return -1;
    }
    return *ret == (uint64_t)-1 && PyErr_Occurred() ? -1 : 0;
}

#if PY_VERSION_HEX < 0x030f0000
// The words of an mprotect are small or two digits long; asking the interpreter for them costs more than the
// rest.
static inline int convert_quickly(PyObject *object, uint64_t *ret) {
    if (!PyLong_CheckExact(object))
        return 0;
    const PyLongObject *number = (const PyLongObject *)object;
#if PY_VERSION_HEX < 0x030c0000
    const digit *digits = number->ob_digit;
    Py_ssize_t count = Py_SIZE(number);
    if ((size_t)count > 2)
        return 0;
#else
    const digit *digits = number->long_value.ob_digit;
    uintptr_t tag = number->long_value.lv_tag;
    size_t count = tag >> 3;
    if ((tag & 2) != 0 || count > 2)
        return 0;
#endif
    *ret = count == 0 ? 0 : count == 1 ? digits[0] : digits[0] | (uint64_t)digits[1] << PyLong_SHIFT;
    return 1;
}
#else
static inline int convert_quickly(PyObject *Py_UNUSED(object), uint64_t *Py_UNUSED(ret)) { return 0; }
#endif

// Each argument object and its word, from the one at `first` on; defaults where it was left out.
static inline int words_of(const struct call *call, PyObject *const *arguments, int first, uint64_t *ret) {
    for (int i = first; i < call->count; i++) {
        if (arguments[i] == NULL)
            ret[i] = (uint64_t)call->defaults[i];
        else if (!convert_quickly(arguments[i], &ret[i]) && convert(call, i, arguments[i], &ret[i]) < 0)
            return -1;
    }
    return 0;
}

static PyObject *argument_tuple(const struct call *call, PyObject *const *arguments) {
    PyObject *tuple = PyTuple_New(call->count);
    for (int i = 0; tuple != NULL && i < call->count; i++) {
        PyObject *item = arguments[i] != NULL ? Py_NewRef(arguments[i]) : PyLong_FromLong(call->defaults[i]);
        if (item == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, item);
    }
    return tuple;
}

static PyObject *made_error(const struct call *call, PyObject *const *arguments, int error) {
    PyObject *tuple = argument_tuple(call, arguments);
    if (tuple == NULL)
        return NULL;
    PyObject *made = PyObject_CallFunction(error_factory, "isO", error, call->name, tuple);
    Py_DECREF(tuple);
    if (made != NULL && !PyExceptionInstance_Check(made)) {
        PyErr_Format(PyExc_TypeError, "the error factory must return an exception, not %.200s", type_name(made));
        Py_CLEAR(made);
    }
    return made;
}

// Raises for an errno that the caller took right after the call.
static PyObject *failed(const struct call *call, PyObject *const *arguments, int error) {
    if (error_factory != NULL) {
        PyObject *made = made_error(call, arguments, error);
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

static PyObject *call_mprotect(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t positional,
                               PyObject *keywords) {
    static const struct call call = {"mprotect", {"addr", "length", "prot"}, 3, 3, {0}};
    PyObject *gathered[3];
    uint64_t words[3];
    if (positional != 3 || keywords != NULL) {
        if (gather(&call, args, positional, keywords, gathered) < 0)
            return NULL;
        args = gathered;
    }
    if (words_of(&call, args, 0, words) < 0)
        return NULL;
    int status, error = 0;
    if (words[1] <= LONG_RANGE) {
        status = memprot_mprotect(words[0], words[1], words[2]);
        if (status < 0)
            error = errno;
    } else {
        Py_BEGIN_ALLOW_THREADS;
        status = memprot_mprotect(words[0], words[1], words[2]);
        error = errno;
        Py_END_ALLOW_THREADS;
    }
    if (status < 0)
        return failed(&call, args, error);
    Py_RETURN_NONE;
}

static PyObject *call_mmap(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t positional,
                           PyObject *keywords) {
    static const struct call call = {"mmap", {"addr", "length", "prot", "flags", "fd", "offset"}, 4, 6, {[4] = -1}};
    PyObject *gathered[6];
    uint64_t words[6];
    if (gather(&call, args, positional, keywords, gathered) < 0 || words_of(&call, gathered, 0, words) < 0)
        return NULL;
    // A file system may ask a program of its own, even one in this process, before it lets its file be
    // mapped.
    int blocks =
        words[1] > LONG_RANGE || (words[3] & MAP_ANONYMOUS) == 0 || (words[3] & (MAP_POPULATE | MAP_LOCKED)) != 0;
    uintptr_t address;
    int error;
    if (!blocks) {
        address = memprot_mmap(words[0], words[1], words[2], words[3], words[4], words[5]);
        error = errno;
    } else {
        Py_BEGIN_ALLOW_THREADS;
        address = memprot_mmap(words[0], words[1], words[2], words[3], words[4], words[5]);
        error = errno;
        Py_END_ALLOW_THREADS;
    }
    if (address == UINTPTR_MAX)
        return failed(&call, gathered, error);
    PyObject *result = PyLong_FromUnsignedLong(address);
    if (result == NULL)
        // Nobody would ever learn where it is. A failure here could only be reported over the MemoryError.
        (void)memprot_munmap(address, words[1]);
    return result;
}

static PyObject *call_munmap(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t positional,
                             PyObject *keywords) {
    static const struct call call = {"munmap", {"addr", "length"}, 2, 2, {0}};
    PyObject *gathered[2];
    uint64_t words[2];
    if (gather(&call, args, positional, keywords, gathered) < 0 || words_of(&call, gathered, 0, words) < 0)
        return NULL;
    int status, error;
    if (words[1] <= LONG_RANGE) {
        status = memprot_munmap(words[0], words[1]);
        error = errno;
    } else {
        Py_BEGIN_ALLOW_THREADS;
        status = memprot_munmap(words[0], words[1]);
        error = errno;
        Py_END_ALLOW_THREADS;
    }
    if (status < 0)
        return failed(&call, gathered, error);
    Py_RETURN_NONE;
}

// Advice that only sets a flag or drops pages; the rest reads, writes, moves or waits.
static int is_quick_advice(uint64_t advice) {
    switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_DONTFORK:
    case MADV_DOFORK:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_WIPEONFORK:
    case MADV_KEEPONFORK:
    case 102: // MADV_GUARD_INSTALL
    case 103: // MADV_GUARD_REMOVE
        return 1;
    default:
        return 0;
    }
}

static PyObject *call_madvise(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t positional,
                              PyObject *keywords) {
    static const struct call call = {"madvise", {"addr", "length", "advice"}, 3, 3, {0}};
    PyObject *gathered[3];
    uint64_t words[3];
    if (gather(&call, args, positional, keywords, gathered) < 0 || words_of(&call, gathered, 0, words) < 0)
        return NULL;
    int status, error;
    if (words[1] <= LONG_RANGE && is_quick_advice(words[2])) {
        status = memprot_madvise(words[0], words[1], words[2]);
        error = errno;
    } else {
        Py_BEGIN_ALLOW_THREADS;
        status = memprot_madvise(words[0], words[1], words[2]);
        error = errno;
        Py_END_ALLOW_THREADS;
    }
    if (status < 0)
        return failed(&call, gathered, error);
    Py_RETURN_NONE;
}

// The name as bytes that hold no zero byte; a new reference.
static PyObject *encoded_name(PyObject *name) {
    if (!PyUnicode_Check(name) && !PyBytes_Check(name)) {
        PyErr_Format(PyExc_TypeError, "memfd_create() argument 'name' must be str or bytes, not %.200s",
                     type_name(name));
        return NULL;
    }
    PyObject *bytes;
    return PyUnicode_FSConverter(name, &bytes) ? bytes : NULL;
}

static PyObject *call_memfd_create(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t positional,
                                   PyObject *keywords) {
    static const struct call call = {"memfd_create", {"name", "flags"}, 1, 2, {[1] = MFD_CLOEXEC}};
    PyObject *gathered[2];
    uint64_t words[2];
    if (gather(&call, args, positional, keywords, gathered) < 0 || words_of(&call, gathered, 1, words) < 0)
        return NULL;
    PyObject *name = encoded_name(gathered[0]);
    if (name == NULL)
        return NULL;
    int fd = memprot_memfd_create(PyBytes_AS_STRING(name), words[1]);
    int error = errno;
    Py_DECREF(name);
    return fd < 0 ? failed(&call, gathered, error) : PyLong_FromLong(fd);
}

static PyObject *set_error_factory(PyObject *Py_UNUSED(module), PyObject *factory) {
    if (factory != Py_None && !PyCallable_Check(factory)) {
        PyErr_Format(PyExc_TypeError, "set_error_factory() needs a callable or None, not %.200s", type_name(factory));
        return NULL;
    }
    Py_XSETREF(error_factory, factory == Py_None ? NULL : Py_NewRef(factory));
    Py_RETURN_NONE;
}

#define CALL(name) {#name, (PyCFunction)(void (*)(void))call_##name, METH_FASTCALL | METH_KEYWORDS, DOC_##name}

static PyMethodDef methods[] = {
    CALL(mprotect),        CALL(mmap),         CALL(munmap),
    CALL(madvise),         CALL(memfd_create), {"set_error_factory", set_error_factory, METH_O, DOC_set_error_factory},
    {NULL, NULL, 0, NULL},
};

int memprot_add_calls(PyObject *module) { return PyModule_AddFunctions(module, methods); }
