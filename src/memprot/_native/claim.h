// Records taken over by Python.
#pragma once

#include "binding.h"

#include <stdbool.h>

/// The class that a handler sets as a thread's pending exception. Set once, before any fault is delivered; references
/// to it are paid for in advance, because a handler without the interpreter must not count references.
extern PyObject *memprot_claim_class;

/// Takes back the delivery that is under way to the calling thread, which holds the interpreter.
/// @return whether there was one.
bool memprot_claim_withdraw(void);

/// Takes over the calling thread's records, with @p anyone also those that belong to no living thread, and the delivery
/// that was under way to it.
/// @return a new list of tuples, or NULL with an exception set.
PyObject *memprot_claim(bool anyone);

/// @return a new exception instance that stands for a list of at least one record; NULL with an exception set.
PyObject *memprot_claim_error(PyObject *records);
