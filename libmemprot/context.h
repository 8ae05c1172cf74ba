// What the processor's saved state tells of a fault.
#pragma once

#include "record.h"

#include <ucontext.h>

/// Whether the access to @p address was a read, a write or an instruction fetch. May run in a signal handler.
enum memprot_access memprot_context_access(const ucontext_t *context, uintptr_t address);

/// The instruction pointer, to read and to set. May run in a signal handler.
uintptr_t *memprot_context_instruction(ucontext_t *context);

/// The stack pointer. May run in a signal handler.
uintptr_t memprot_context_stack(const ucontext_t *context);

/// The rights that the interrupted code has to protection keys, as the register holds them, to read and to set; NULL
/// where there are none. May run in a signal handler.
unsigned *memprot_context_key_rights(const ucontext_t *context);

/// Lets the rest of a handler, and not what it has interrupted, make misaligned accesses. May run in a signal handler.
void memprot_context_allow_misaligned(void);
