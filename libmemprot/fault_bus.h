// Recovery from SIGBUS.
#pragma once

#include "fault_parts.h"

/// Adds zeros to those that a record answers for; nothing for NULL. May run in a signal handler.
void memprot_fault_add_hole(struct memprot_record *record, struct memprot_hole *hole);

/// Recovers from a page that the kernel cannot give, of memory that holds raw data: memprot's own, or in a scope any
/// file's.
/// @param others_may whether the next handler may recover from it as well.
/// @param overlay that answers for the address, or NULL. May run in a signal handler.
bool memprot_fault_recover_bus(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay,
                               const struct memprot_ruling *ruling, bool others_may);
