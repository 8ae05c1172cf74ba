// From a fault in a signal handler to an exception in the right Python thread.
#pragma once

#include "binding.h"

#include "fault.h"

/// The hooks that describe and deliver faults to Python.
extern const struct memprot_fault_hooks memprot_delivery_hooks;

/// Has the listeners told of what nobody raises, where there is any.
/// @return 0, or -1 with a Python exception set.
int memprot_delivery_tell(void);
