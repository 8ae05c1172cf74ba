// Where a function that is no code was called from.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

struct memprot_call_site {
    uintptr_t back;  // where the call would have returned to
    uintptr_t stack; // the stack pointer after that return
    uintptr_t frame; // the frame pointer
};

/// Whether the instruction that could not be fetched was reached by a call: the return address lies where calls leave
/// it, and the instruction before it is a call whose target is this very address. May run in a signal handler.
bool memprot_call_site_find(const ucontext_t *context, struct memprot_call_site *ret);

/// False where the processor keeps a second record of returns (a shadow stack) that would contradict. May run in a
/// signal handler.
bool memprot_call_site_may_return(void);

/// Lets the function that is no code return at once; its caller sees 0. May run in a signal handler.
void memprot_call_site_return(ucontext_t *context, const struct memprot_call_site *site);

/// Who called a function of which nothing else is known: by the return address on top of the stack, or by the frame
/// pointer, where one of them lies behind a call. May run in a signal handler.
bool memprot_call_site_find_caller(const ucontext_t *context, struct memprot_call_site *ret);

/// What the unwinder starts from: the instruction (as @ref back), the stack pointer and the frame pointer; and has it
/// start from others. May run in a signal handler.
void memprot_call_site_take(const ucontext_t *context, struct memprot_call_site *ret);
void memprot_call_site_pretend(ucontext_t *context, const struct memprot_call_site *site);

/// Writes the return addresses of what was running before control went to where no code is, innermost first: from the
/// call, or after a jump from the innermost frame that still has a return address on the stack. The context is the same
/// afterwards.
/// @return how many; 0 when nothing of it can be told. May run in a signal handler, as memprot_backtrace() may.
uint32_t memprot_call_site_backtrace(ucontext_t *context, uintptr_t *pcs, uint32_t capacity);
