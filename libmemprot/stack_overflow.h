// A stack that ran out, told apart from other accesses to memory that is not there.
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <ucontext.h>

/// Whether the access went below the calling thread's stack because the stack pointer did. A wild pointer is none, as
/// near to a stack as it may be: the stack pointer itself must have left the stack, or be about to. Of a stack that the
/// thread was not started with (a coroutine's) nothing can be told. May run in a signal handler.
bool memprot_is_stack_overflow(const siginfo_t *info, const ucontext_t *context);
