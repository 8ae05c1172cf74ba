// The native call stack from inside a signal handler.
#pragma once

#include <stdint.h>

/// Loads what unwinding needs, which must not happen in a handler.
void memprot_backtrace_prepare(void);

/// Where unwinding stops, inclusive: the caller's own loop, whose callers say nothing about the fault.
void memprot_backtrace_set_limit(uintptr_t start, uintptr_t stop);

/// Writes @p instruction and then the return addresses of its callers to @p pcs, innermost first.
/// May run in a signal handler that a fault (not a sent signal) has entered: the unwinder takes the loader's
/// locks, and code that touches guarded data holds none of them.
/// @return how many were written, at least 1.
uint32_t memprot_backtrace(uintptr_t instruction, uintptr_t *pcs, uint32_t capacity);
