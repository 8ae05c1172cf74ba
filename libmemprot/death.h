// What is told of a fault that nobody recovers from.
#pragma once

#include "fault_parts.h"

/// Tells why the process dies. The next handler is one that lets it. May run in a signal handler.
void memprot_fault_tell_death(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay);

/// Tells why the process ends, of a record that is filled but for what the hooks know; or NULL. May run in a
/// signal handler.
void memprot_fault_tell_end(struct memprot_record *record, struct memprot_overlay *overlay);
