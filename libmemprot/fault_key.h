// Faults that protection keys cause: which key, and whether the thread did anything wrong.
#pragma once

#include "overlay.h"

#include <signal.h>
#include <stdbool.h>
#include <ucontext.h>

/// @return the key that forbade the access, as the kernel tells it, or MEMPROT_NO_KEY. May run in a signal handler.
int memprot_fault_key(const siginfo_t *info);

/// The same, but of a page that lies under memprot's own key the one it has otherwise, which may be none.
/// @param overlay what answers for the address, or NULL. May run in a signal handler.
int memprot_fault_true_key(const siginfo_t *info, const struct memprot_overlay *overlay);

/// Whether the thread may make the access, and met a page that is open for another thread or just being closed; it is
/// closed then, so that the access succeeds when it is tried again. May run in a signal handler.
bool memprot_fault_is_permitted(const siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay);

/// Lets the interrupted thread, and no other, reach pages under memprot's own key.
/// @param rights as memprot_context_key_rights finds them, or NULL. May run in a signal handler.
void memprot_fault_grant(unsigned *rights);
