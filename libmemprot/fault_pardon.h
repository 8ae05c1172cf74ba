// Faults that the user does not want to hear of, where the process is to end of any.
#pragma once

#include "overlay.h"
#include "policy.h"
#include "record.h"

#include <signal.h>
#include <ucontext.h>

/// Whether a fault that the user does not want to hear of may go by, though the process is to end of any. May run in a
/// signal handler.
bool memprot_fault_may_pardon(const struct memprot_ruling *ruling);

/// Whether a filled record is of such a fault; the ruling is then to discard it. May run in a signal handler.
bool memprot_fault_pardon(struct memprot_record *record, struct memprot_ruling *ruling);

/// Has a fault discarded that would end the process, where nobody wants to hear of it. May run in a signal handler.
void memprot_fault_look_for_pardon(const siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay,
                                   struct memprot_ruling *ruling);
