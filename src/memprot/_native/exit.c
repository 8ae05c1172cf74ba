// What the process leaves behind when it ends.
#include "binding.h"
#include "docstrings.h"

#include "document.h"
#include "exit.h"

static int bytes_or_none(PyObject *object, void *ret) {
    if (object == Py_None) {
        *(const char **)ret = NULL;
        return 1;
    }
    *(const char **)ret = PyBytes_AsString(object);
    return *(const char **)ret != NULL;
}

static PyObject *set_exit(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"pid", "path", "head", "body", "words", "listed", "replacement", NULL};
    struct memprot_exit plan;
    int pid;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO&yyypi:set_exit", names, &pid, bytes_or_none, &plan.path,
                                     &plan.head, &plan.body, &plan.words, &plan.listed, &plan.replacement))
        return NULL;
    plan.pid = pid;
    if (memprot_exit_set(&plan) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *leave(PyObject *module, PyObject *argument) {
    (void)module;
    long status = PyLong_AsLong(argument);
    if (status == -1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromLong(memprot_exit_leave((int)(status & 0xff)));
}

static PyObject *die(PyObject *module, PyObject *args) {
    (void)module;
    int signal;
    const char *fault = NULL;
    Py_ssize_t length = 0;
    if (!PyArg_ParseTuple(args, "i|y#:die", &signal, &fault, &length))
        return NULL;
    if (memprot_exit_die(signal, fault, (size_t)length) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *write_document(PyObject *module, PyObject *args) {
    (void)module;
    const char *path;
    Py_buffer document;
    if (!PyArg_ParseTuple(args, "yy*:write_document", &path, &document))
        return NULL;
    struct iovec part = {.iov_base = document.buf, .iov_len = (size_t)document.len};
    int status = memprot_write_document(path, &part, 1);
    PyBuffer_Release(&document);
    if (status < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"set_exit", (PyCFunction)(void (*)(void))set_exit, METH_VARARGS | METH_KEYWORDS, DOC_set_exit},
    {"leave", leave, METH_O, DOC_leave},
    {"die", die, METH_VARARGS, DOC_die},
    {"write_document", write_document, METH_VARARGS, DOC_write_document},
    {NULL, NULL, 0, NULL},
};

int memprot_add_exit(PyObject *module) { return PyModule_AddFunctions(module, methods); }
