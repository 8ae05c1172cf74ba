// Errors of the kernel that stand for a fault which nobody has recorded.
#pragma once

#include "binding.h"

#include <stdbool.h>

/// Whether an exception, or None, is the OSError of a bad address.
bool memprot_is_bad_address(PyObject *error);

/// The fault behind such an error, where a buffer of the call that raised it is memory that memprot protects.
/// @param known a tuple of the faults that were raised already; taken over.
/// @return a new exception; NULL where there is none, or with a Python exception set.
PyObject *memprot_kernel_error_fault(PyObject *error, PyObject *known);
