// Python stacks as numbers: each distinct stack is kept once, and capturing one that is known costs a walk
// and a look-up.
#pragma once

#include "binding.h"

/// Once, while the module is made.
void memprot_stacks_init(void);

/// The calling thread's stack, whether it holds the interpreter or not; or 0 when it runs no Python, or the depot is
/// full.
uint32_t memprot_stack_capture(void);

/// The same for who may be any thread at any moment, as those are who allocate memory; 0 also when this is not the
/// time.
uint32_t memprot_stack_capture_anywhere(void);

/// @return a new tuple of (file, line, function), innermost first; empty for 0. NULL with an exception set.
PyObject *memprot_stack_frames(uint32_t stack);

/// The code of one frame, 0 the innermost, and where in it, as PyCode_Addr2Line takes it; NULL past the
/// outermost. May run in a signal handler.
PyCodeObject *memprot_stack_frame(uint32_t stack, uint32_t depth, int *offset);
