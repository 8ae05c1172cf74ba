// A system call as a Python function: each argument an int that fills a register, a failure an exception.
#pragma once

#include "binding.h"

#include <stdbool.h>

enum { MEMPROT_PARAMETERS = 6 };

/// What the functions of one file add to the module.
extern PyMethodDef memprot_advice_calls[], memprot_break_calls[], memprot_file_calls[], memprot_key_calls[],
    memprot_locking_calls[], memprot_mapping_calls[], memprot_numa_calls[], memprot_process_calls[],
    memprot_protection_calls[];

struct memprot_call {
    const char *name;
    const char *parameters[MEMPROT_PARAMETERS + 1];
    int required, count;
    long defaults[MEMPROT_PARAMETERS];
    long number;
    /// Whether other threads should run meanwhile; NULL: never.
    bool (*is_long)(const uint64_t *words);
};

/// Puts positional and keyword arguments in the order of the parameters; those left out are NULL.
/// @param[out] ret borrowed references.
/// @return 0, or -1 with TypeError set.
int memprot_call_gather(const struct memprot_call *call, PyObject *const *arguments, Py_ssize_t positional,
                        PyObject *keywords, PyObject **ret);

/// A whole register from an int: unsigned, or negative as two's complement.
/// @param[in] i the index of its parameter.
/// @return 0, or -1 with TypeError or OverflowError set.
int memprot_call_word(const struct memprot_call *call, int i, PyObject *object, uint64_t *ret);

/// A name from str or bytes.
/// @param[in] i the index of its parameter.
/// @return new bytes that hold no zero byte, or NULL with TypeError or ValueError set.
PyObject *memprot_call_name(const struct memprot_call *call, int i, PyObject *object);

/// What an iterable gives.
/// @param[in] i the index of its parameter.
/// @return a new tuple, or NULL with an exception set: TypeError for what cannot be iterated.
PyObject *memprot_call_items(const struct memprot_call *call, int i, PyObject *object);

/// As memprot_call_word, for the item at an index of what a parameter gives.
int memprot_call_item(const struct memprot_call *call, int i, Py_ssize_t index, PyObject *item, uint64_t *ret);

/// Makes the system call, with or without other threads meanwhile.
/// @param[in] words MEMPROT_PARAMETERS of them.
/// @param[out] error errno, when -1 is returned.
/// @return what the system call returns.
long memprot_call_make(const struct memprot_call *call, const uint64_t *words, int *error);

/// Raises for an errno that the caller took right after the call.
/// @return NULL
PyObject *memprot_call_failed(const struct memprot_call *call, PyObject *const *gathered, int error);

/// A whole call of which every argument is an int and the result None.
PyObject *memprot_call_none(const struct memprot_call *call, PyObject *const *arguments, Py_ssize_t positional,
                            PyObject *keywords);

/// A whole call of which every argument is an int and the result too.
PyObject *memprot_call_int(const struct memprot_call *call, PyObject *const *arguments, Py_ssize_t positional,
                           PyObject *keywords);

// Longer than this, a call may walk so many pages that other threads should run meanwhile.
static const uint64_t MEMPROT_LONG_RANGE = 1 << 20;

/// For calls that wait, or that read or write pages.
bool memprot_always_long(const uint64_t *words);

/// For calls whose second argument is a length.
bool memprot_is_long_range(const uint64_t *words);

#define MEMPROT_ARGUMENTS                                                                                              \
    PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t positional, PyObject *keywords

/// Defines a function whose arguments are all ints. RESULT is memprot_call_none or memprot_call_int; the rest are
/// members of the struct memprot_call.
#define MEMPROT_CALL(NAME, RESULT, ...)                                                                                \
    static PyObject *call_##NAME(MEMPROT_ARGUMENTS) {                                                                  \
        static const struct memprot_call call = {.name = #NAME, __VA_ARGS__};                                          \
        return RESULT(&call, arguments, positional, keywords);                                                         \
    }

#define MEMPROT_METHOD(NAME)                                                                                           \
    {#NAME, (PyCFunction)(void (*)(void))call_##NAME, METH_FASTCALL | METH_KEYWORDS, DOC_##NAME}

#if PY_VERSION_HEX < 0x030f0000
// The words of an mprotect are small or two digits long; asking the interpreter for them costs more than the rest.
static inline bool memprot_call_word_quickly(PyObject *object, uint64_t *ret) {
    if (!PyLong_CheckExact(object))
        return false;
    const PyLongObject *number = (const PyLongObject *)object;
#if PY_VERSION_HEX < 0x030c0000
    const digit *digits = number->ob_digit;
    Py_ssize_t count = Py_SIZE(number);
    if ((size_t)count > 2)
        return false;
#else
    const digit *digits = number->long_value.ob_digit;
    uintptr_t tag = number->long_value.lv_tag;
    size_t count = tag >> 3;
    if ((tag & 2) != 0 || count > 2)
        return false;
#endif
    *ret = count == 0 ? 0 : count == 1 ? digits[0] : digits[0] | (uint64_t)digits[1] << PyLong_SHIFT;
    return true;
}
#else
static inline bool memprot_call_word_quickly(PyObject *Py_UNUSED(object), uint64_t *Py_UNUSED(ret)) { return false; }
#endif

/// The words of the parameters [first, stop); the default where one was left out.
/// @return 0, or -1 with TypeError or OverflowError set.
static inline int memprot_call_words(const struct memprot_call *call, PyObject *const *gathered, int first, int stop,
                                     uint64_t *ret) {
    for (int i = first; i < stop; i++) {
        if (gathered[i] == NULL)
            ret[i] = (uint64_t)call->defaults[i];
        else if (!memprot_call_word_quickly(gathered[i], &ret[i]) &&
                 memprot_call_word(call, i, gathered[i], &ret[i]) < 0)
            return -1;
    }
    return 0;
}
