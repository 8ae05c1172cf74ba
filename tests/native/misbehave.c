// A module that misbehaves on command: it touches whatever address it is told to, in the ways real extensions
// do.
//
// Every function returns as if nothing had happened when the access did not end the process; with gil=False
// it happens while the GIL is released. What touches memory is not inlined, so that a native stack names it:
// touch_*, loop_*.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "touch.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

static void perform(void (*touch)(struct access *), struct access *access, int gil) {
    if (gil) {
        touch(access);
        return;
    }
    Py_BEGIN_ALLOW_THREADS;
    touch(access);
    Py_END_ALLOW_THREADS;
}

// Functions of one signature differ only in how they touch memory.
#define BIND(name, parse_and_perform, touch)                                                                           \
    static PyObject *misbehave_##name(PyObject *Py_UNUSED(self), PyObject *arguments, PyObject *keywords) {            \
        return parse_and_perform(arguments, keywords, touch);                                                          \
    }

// write(address, value, gil=True), and the same with other widths and instructions.
static PyObject *write_one(PyObject *arguments, PyObject *keywords, void (*touch)(struct access *)) {
    static char *names[] = {"address", "value", "gil", NULL};
    struct access access = {0};
    int gil = 1;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "KK|p", names, &access.address, &access.value, &gil))
        return NULL;
    perform(touch, &access, gil);
    Py_RETURN_NONE;
}

BIND(write, write_one, touch_write)
BIND(write64, write_one, touch_write64)
BIND(add64, write_one, touch_add64)
BIND(write_with_signals_blocked, write_one, touch_write_with_signals_blocked)

// read(address, gil=True) -> int
static PyObject *read_one(PyObject *arguments, PyObject *keywords, void (*touch)(struct access *)) {
    static char *names[] = {"address", "gil", NULL};
    struct access access = {0};
    int gil = 1;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "K|p", names, &access.address, &gil))
        return NULL;
    perform(touch, &access, gil);
    return PyLong_FromUnsignedLongLong(access.value);
}

BIND(read, read_one, touch_read)
BIND(read64, read_one, touch_read64)

// write_bytes(address, data, gil=True): byte by byte.
static PyObject *misbehave_write_bytes(PyObject *Py_UNUSED(self), PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"address", "data", "gil", NULL};
    struct access access = {0};
    Py_buffer data;
    int gil = 1;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "Ky*|p", names, &access.address, &data, &gil))
        return NULL;
    access.source = (uintptr_t)data.buf;
    access.length = (address_t)data.len;
    perform(loop_forwards, &access, gil);
    PyBuffer_Release(&data);
    Py_RETURN_NONE;
}

// read_bytes(address, length, gil=True) -> bytes: byte by byte.
static PyObject *misbehave_read_bytes(PyObject *Py_UNUSED(self), PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"address", "length", "gil", NULL};
    struct access access = {0};
    Py_ssize_t length;
    int gil = 1;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "Kn|p", names, &access.source, &length, &gil))
        return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, length);
    if (!result)
        return NULL;
    access.address = (uintptr_t)PyBytes_AS_STRING(result);
    access.length = (address_t)length;
    perform(loop_forwards, &access, gil);
    return result;
}

// set(address, byte, length, gil=True)
static PyObject *fill(PyObject *arguments, PyObject *keywords, void (*touch)(struct access *)) {
    static char *names[] = {"address", "byte", "length", "gil", NULL};
    struct access access = {0};
    int gil = 1;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "KKK|p", names, &access.address, &access.value,
                                     &access.length, &gil))
        return NULL;
    perform(touch, &access, gil);
    Py_RETURN_NONE;
}

BIND(set, fill, touch_set)
BIND(stosb, fill, touch_stosb)

// move(to, source, length, gil=True)
static PyObject *copy(PyObject *arguments, PyObject *keywords, void (*touch)(struct access *)) {
    static char *names[] = {"to", "source", "length", "gil", NULL};
    struct access access = {0};
    int gil = 1;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "KKK|p", names, &access.address, &access.source,
                                     &access.length, &gil))
        return NULL;
    perform(touch, &access, gil);
    Py_RETURN_NONE;
}

BIND(move, copy, touch_move)
BIND(move_forwards, copy, loop_forwards)
BIND(move_backwards, copy, loop_backwards)
BIND(movsb, copy, touch_movsb)

// hammer(address, stride, count, gil=True): one write every stride bytes, all in one call.
static PyObject *misbehave_hammer(PyObject *Py_UNUSED(self), PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"address", "stride", "count", "gil", NULL};
    struct access access = {0};
    int gil = 1;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "KKK|p", names, &access.address, &access.stride,
                                     &access.count, &gil))
        return NULL;
    perform(loop_hammer, &access, gil);
    Py_RETURN_NONE;
}

// write_in_loop_until(address, byte, flag_address, gil=False) -> int: how often it wrote until the flag byte
// was set.
static PyObject *misbehave_write_in_loop_until(PyObject *Py_UNUSED(self), PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"address", "byte", "flag_address", "gil", NULL};
    struct access access = {0};
    int gil = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "KKK|p", names, &access.address, &access.value,
                                     &access.source, &gil))
        return NULL;
    perform(loop_until, &access, gil);
    return PyLong_FromUnsignedLongLong(access.count);
}

static void *write_in_thread(void *data) {
    struct access *access = data;
    touch_write(access);
    PyMem_RawFree(access);
    return NULL;
}

// write_from_c_thread(address, byte, wait=True, gil=False): by a thread that has no Python thread state.
static PyObject *misbehave_write_from_c_thread(PyObject *Py_UNUSED(self), PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"address", "byte", "wait", "gil", NULL};
    struct access parsed = {0};
    int wait = 1, gil = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "KK|pp", names, &parsed.address, &parsed.value, &wait, &gil))
        return NULL;
    struct access *access = PyMem_RawMalloc(sizeof *access);
    if (!access)
        return PyErr_NoMemory();
    *access = parsed;
    pthread_t thread;
    errno = pthread_create(&thread, NULL, write_in_thread, access);
    if (errno) {
        PyMem_RawFree(access);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (!wait) {
        pthread_detach(thread);
        Py_RETURN_NONE;
    }
    PyThreadState *state = gil ? NULL : PyEval_SaveThread();
    pthread_join(thread, NULL);
    if (state)
        PyEval_RestoreThread(state);
    Py_RETURN_NONE;
}

static PyObject *misbehave_null_write(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(arguments)) {
    struct access access = {0};
    touch_write(&access);
    Py_RETURN_NONE;
}

// call(address, gil=True) -> int: calls it as a function of no arguments; what it returned.
BIND(call, read_one, touch_by_calling)

// call_from_table(address, gil=True) -> int: the same through a pointer in memory.
BIND(call_from_table, read_one, touch_by_calling_from_table)

// jump(address): goes there without a way back.
BIND(jump, read_one, touch_by_jumping)

// call_for_double(address) -> float: as a function of a double.
static PyObject *misbehave_call_for_double(PyObject *Py_UNUSED(self), PyObject *arguments) {
    struct access access = {0};
    if (!PyArg_ParseTuple(arguments, "K", &access.address))
        return NULL;
    return PyFloat_FromDouble(value_by_calling(&access));
}

NOT_INLINED static int loop_recursion(volatile char *outer) {
    volatile char frame[1024];
    frame[0] = outer[0];
    return outer[0] ? loop_recursion(frame) + frame[0] : 0;
}

static PyObject *misbehave_overflow_stack(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(arguments)) {
    volatile char start[1] = {1};
    return PyLong_FromLong(loop_recursion(start));
}

// raise_signal(signo): to this very thread, as abort() and assert() do.
static PyObject *misbehave_raise_signal(PyObject *Py_UNUSED(self), PyObject *arguments) {
    int signo;
    if (!PyArg_ParseTuple(arguments, "i", &signo))
        return NULL;
    if (raise(signo) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

NOT_INLINED static void touch_write_with_error_set(struct access *access) {
    PyErr_SetString(PyExc_ValueError, "set before the write");
    touch_write(access);
}

// write_with_error_set(address, byte): touches memory on its way to raising ValueError.
static PyObject *misbehave_write_with_error_set(PyObject *Py_UNUSED(self), PyObject *arguments, PyObject *keywords) {
    Py_XDECREF(write_one(arguments, keywords, touch_write_with_error_set));
    return NULL;
}

// write_then_call(address, byte, function): what the function returns, or its exception.
static PyObject *misbehave_write_then_call(PyObject *Py_UNUSED(self), PyObject *arguments) {
    struct access access = {0};
    PyObject *function;
    if (!PyArg_ParseTuple(arguments, "KKO", &access.address, &access.value, &function))
        return NULL;
    touch_write(&access);
    return PyObject_CallNoArgs(function);
}

// call_and_swallow(function) -> bool: whether it raised; the exception is gone, whatever it was.
static PyObject *misbehave_call_and_swallow(PyObject *Py_UNUSED(self), PyObject *function) {
    PyObject *result = PyObject_CallNoArgs(function);
    bool raised = result == NULL;
    Py_XDECREF(result);
    PyErr_Clear();
    return PyBool_FromLong(raised);
}

// call_twice_without_check(function): reports success, whatever exception the calls have left behind.
static PyObject *misbehave_call_twice_without_check(PyObject *Py_UNUSED(self), PyObject *function) {
    PyObject *first = PyObject_CallNoArgs(function);
    PyObject *second = PyObject_CallNoArgs(function);
    Py_XDECREF(first);
    Py_XDECREF(second);
    Py_RETURN_NONE;
}

#define WITH_KEYWORDS(name) {#name, (PyCFunction)(void (*)(void))misbehave_##name, METH_VARARGS | METH_KEYWORDS, NULL}
#define PLAIN(name, flags)  {#name, misbehave_##name, flags, NULL}

static PyMethodDef methods[] = {
    WITH_KEYWORDS(write),
    WITH_KEYWORDS(write64),
    WITH_KEYWORDS(add64),
    WITH_KEYWORDS(read),
    WITH_KEYWORDS(read64),
    WITH_KEYWORDS(write_bytes),
    WITH_KEYWORDS(read_bytes),
    WITH_KEYWORDS(set),
    WITH_KEYWORDS(stosb),
    WITH_KEYWORDS(move),
    WITH_KEYWORDS(move_forwards),
    WITH_KEYWORDS(move_backwards),
    WITH_KEYWORDS(movsb),
    WITH_KEYWORDS(hammer),
    WITH_KEYWORDS(write_in_loop_until),
    WITH_KEYWORDS(write_from_c_thread),
    WITH_KEYWORDS(call),
    WITH_KEYWORDS(call_from_table),
    WITH_KEYWORDS(jump),
    WITH_KEYWORDS(write_with_error_set),
    WITH_KEYWORDS(write_with_signals_blocked),
    PLAIN(call_for_double, METH_VARARGS),
    PLAIN(null_write, METH_NOARGS),
    PLAIN(overflow_stack, METH_NOARGS),
    PLAIN(raise_signal, METH_VARARGS),
    PLAIN(write_then_call, METH_VARARGS),
    PLAIN(call_and_swallow, METH_O),
    PLAIN(call_twice_without_check, METH_O),
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030d0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "misbehave",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit_misbehave(void) { return PyModuleDef_Init(&definition); }
