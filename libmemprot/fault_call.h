// Recovery from a call of what is no code.
#pragma once

#include "fault_parts.h"

/// Lets a function that is data return 0 at once, when it was reached by a call. A jump cannot be taken back.
/// @param overlay that answers for the address. May run in a signal handler.
bool memprot_fault_recover_call(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay,
                                const struct memprot_ruling *ruling);
