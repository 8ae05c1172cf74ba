// From a fault in a signal handler to an exception in the right Python thread.
#pragma once

#include "binding.h"

#include "fault.h"

/// The hooks that describe and deliver faults to Python.
extern const struct memprot_fault_hooks memprot_delivery_hooks;

/// Takes over the calling thread's records, with @p anyone also those that belong to no living thread, and
/// the delivery that was under way to it.
/// @return a new list of tuples, or NULL with an exception set.
PyObject *memprot_delivery_claim(bool anyone);

/// @return a new exception instance that stands for a list of at least one record; NULL with an exception
/// set.
PyObject *memprot_delivery_error(PyObject *records);
