// What the files of the binding share: each bound concept adds itself to the module.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/// Each returns 0, or -1 with a Python exception set.
int memprot_add_calls(PyObject *module);
int memprot_add_exit(PyObject *module);
int memprot_add_interpose(PyObject *module);
