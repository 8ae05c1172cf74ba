// From a fault in a signal handler to an exception in the right Python thread.
#pragma once

#include "binding.h"

#include "fault.h"

#include <stdbool.h>

/// The hooks that describe and deliver faults to Python.
extern const struct memprot_fault_hooks memprot_delivery_hooks;

/// Whether a fault is to be raised in the calling thread, which holds the interpreter.
bool memprot_delivery_is_waiting(void);
/// Has the listeners told of what nobody raises, where there is any.
/// @return 0, or -1 with a Python exception set.
int memprot_delivery_tell(void);
