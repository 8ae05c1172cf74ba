// Facts about our own memory that are asked by calls which change nothing.
#include "binding.h"

#include "docstrings.h"
#include "kept_file.h"
#include "probe.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static PyObject *seems_sealed(PyObject *Py_UNUSED(module), PyObject *argument) {
    int negative;
    uint64_t page;
    if (memprot_as_number("seems_sealed", "page", argument, &negative, &page) < 0)
        return NULL;
    int answer = memprot_seems_sealed(page);
    if (answer < 0)
        Py_RETURN_NONE;
    return PyBool_FromLong(answer);
}

static PyObject *near_mapping_limit(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyBool_FromLong(memprot_near_mapping_limit());
}

// -1: it cannot be kept open.
static int kept_overcommit_mode(void) {
    static struct memprot_kept_file file = {.fd = -1};
    char digit;
    if (!memprot_kept_file_is_open(&file)) {
        int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC);
        if (fd < 0 || memprot_kept_file_set(&file, fd) < 0)
            return -1;
    }
    return pread(file.fd, &digit, 1, 0) == 1 ? digit - '0' : -1;
}

static PyObject *overcommit_mode(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    int mode = -1;
    // Never waited for: after a fork nobody may be left to give it back.
    if (pthread_mutex_trylock(&lock) == 0) {
        mode = kept_overcommit_mode();
        pthread_mutex_unlock(&lock);
    }
    return PyLong_FromLong(mode);
}

static PyObject *stack_address(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyLong_FromVoidPtr(__builtin_frame_address(0));
}

static PyMethodDef methods[] = {
    {"stack_address", stack_address, METH_NOARGS, DOC_stack_address},
    {"overcommit_mode", overcommit_mode, METH_NOARGS, DOC_overcommit_mode},
    {"seems_sealed", seems_sealed, METH_O, DOC_seems_sealed},
    {"near_mapping_limit", near_mapping_limit, METH_NOARGS, DOC_near_mapping_limit},
    {NULL, NULL, 0, NULL},
};

int memprot_add_probe(PyObject *module) { return PyModule_AddFunctions(module, methods); }
