// The native call stack from inside a signal handler.
#pragma once

#include <stdbool.h>
#include <stdint.h>

/// Loads what unwinding needs, which must not happen in a handler.
void memprot_backtrace_prepare(void);

/// Where unwinding stops, inclusive: the caller's own loop, whose callers say nothing about the fault.
void memprot_backtrace_set_limit(uintptr_t start, uintptr_t stop);

/// Why a walk ended, and the registers of the function in which it did.
struct memprot_backtrace_end {
    bool gap; // nothing is known of how that function is to be unwound
    uintptr_t stack, frame;
};

/// Writes @p instruction and then the return addresses of its callers to @p pcs, innermost first.
/// May run in a signal handler that a fault (not a sent signal) has entered: the unwinder takes the loader's
/// locks, and code that touches guarded data holds none of them. On a stack that makes no sense the walk ends.
/// @param[out] stacks For each of @p pcs the stack pointer in that function: a return address lies below it. NULL if it
/// is not wanted.
/// @param[out] end NULL if it is not wanted.
/// @return how many were written, at least 1.
uint32_t memprot_backtrace(uintptr_t instruction, uintptr_t *pcs, uintptr_t *stacks, uint32_t capacity,
                           struct memprot_backtrace_end *end);

/// Ends the walk that the calling thread has met a fault in, and does not return; or does nothing, where it is in none.
/// May run in a signal handler.
void memprot_backtrace_give_up(int signal);
