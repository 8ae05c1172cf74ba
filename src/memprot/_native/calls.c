// The system calls as functions of ints, in the order of their man pages.
#include "binding.h"

#include "calls.h"

static PyMethodDef methods[] = {
    {NULL, NULL, 0, NULL},
};

int memprot_add_calls(PyObject *module) {
    return PyModule_AddFunctions(module, methods);
}
