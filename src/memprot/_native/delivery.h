// From a fault in a signal handler to an exception in the right Python thread.
#pragma once

#include "binding.h"

#include "fault.h"

/// The hooks that describe and deliver faults to Python.
extern const struct memprot_fault_hooks memprot_delivery_hooks;
