// Python stacks as numbers: each distinct stack is kept once, and capturing one that is known costs a walk and a look-up.
#pragma once

#include "binding.h"

/// The calling thread's stack, or 0 when it does not hold the interpreter, runs no Python, or the depot is full.
uint32_t memprot_stack_capture(void);

/// @return a new tuple of (file, line, function), innermost first; empty for 0. NULL with an exception set.
PyObject *memprot_stack_frames(uint32_t stack);
