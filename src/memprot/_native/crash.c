// What Python adds to the last word of a process that dies of a fault, and who is to say it.
#include "binding.h"
#include "describe.h"
#include "docstrings.h"

#include "alternate_stack.h"
#include "evidence.h"
#include "reporter.h"
#include "thread_start.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The stacks of all Python threads. The interpreter's list is walked without its lock, which this very thread
// may hold; a fault on the way goes to the next handler. May run in a signal handler.
static void put_threads(struct output *out) {
    static struct memprot_record scratch;
    bool first = true;
    for (PyThreadState *thread = PyInterpreterState_ThreadHead(PyInterpreterState_Main()); thread;
         thread = thread->next) {
        if (!memprot_top_frame(thread))
            continue;
        scratch.text_length = 0;
        memprot_describe_thread(&scratch, thread);
        put_member(out, first ? "{\"id\":" : ",{\"id\":", thread->native_thread_id);
        put(out, ",\"python\":");
        memprot_evidence_put_frames(out, &scratch);
        put_byte(out, '}');
        first = false;
    }
}

// ---- naming the reporter

static char **copy_strings(PyObject *sequence) {
    PyObject *list = PySequence_Fast(sequence, "a list of bytes is needed");
    if (!list)
        return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(list);
    char **strings = PyMem_RawCalloc((size_t)count + 1, sizeof *strings);
    for (Py_ssize_t i = 0; strings && i < count; i++) {
        char *bytes = PyBytes_AsString(PySequence_Fast_GET_ITEM(list, i));
        strings[i] = bytes ? strdup(bytes) : NULL;
        if (!strings[i]) {
            while (i > 0)
                free(strings[--i]);
            PyMem_RawFree(strings);
            strings = NULL;
        }
    }
    Py_DECREF(list);
    if (!strings && !PyErr_Occurred())
        PyErr_NoMemory();
    return strings;
}

// set_crash_reporter(argv, environment, stderr=2); they stay for good.
static PyObject *set_crash_reporter(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *argv, *environment;
    int fd = STDERR_FILENO;
    if (!PyArg_ParseTuple(args, "OO|i:set_crash_reporter", &argv, &environment, &fd))
        return NULL;
    char **environment_strings = copy_strings(environment);
    char **argv_strings = environment_strings ? copy_strings(argv) : NULL;
    if (!argv_strings)
        return NULL;
    memprot_reporter_set(argv_strings, environment_strings);
    memprot_reporter_write_to(fd);
    Py_RETURN_NONE;
}

// use_alternate_stacks(): so that a handler has room when the thread's own stack is what ran out.
static PyObject *use_alternate_stacks(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    if (memprot_alternate_stack_use() < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    memprot_thread_starts_watch();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"set_crash_reporter", set_crash_reporter, METH_VARARGS, DOC_set_crash_reporter},
    {"use_alternate_stacks", use_alternate_stacks, METH_NOARGS, DOC_use_alternate_stacks},
    {NULL, NULL, 0, NULL},
};

int memprot_add_crash(PyObject *module) {
    static const struct memprot_evidence_source python = {.describe_stack = memprot_describe_stack,
                                                          .put_threads = put_threads};
    memprot_evidence_ask(&python);
    return PyModule_AddFunctions(module, methods);
}
