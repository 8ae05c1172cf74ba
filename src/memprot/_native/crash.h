// The last word of a process that dies of a fault.
#pragma once

#include "fault.h"

/// Tells what is known: to the reporter process, where one was named, with everything; otherwise, for memory
/// that memprot owns, in a few lines on standard error. Returns when that is done. May run in a signal
/// handler.
void memprot_crash(const struct memprot_record *record, bool owned, const ucontext_t *context);
