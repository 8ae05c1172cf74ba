// The native call stack of interrupted code, also where it has no unwind tables.
#pragma once

#include <stdint.h>
#include <ucontext.h>

/// Writes the interrupted instruction and then the return addresses of its callers to @p pcs, innermost first.
///
/// Functions without unwind tables are left by the return address on top of the stack, or by the frame pointer, where
/// these make sense. The same fault met once more, with the same return addresses in the same places, is answered from
/// memory. May run in a signal handler, as memprot_backtrace() may.
/// @param context As the handler was given it; the same afterwards.
/// @return how many were written, at least 1.
uint32_t memprot_interrupted_stack(ucontext_t *context, uintptr_t *pcs, uint32_t capacity);
