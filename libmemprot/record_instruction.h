// What a record says of the instruction that faulted.
#pragma once

#include "record.h"

#include <ucontext.h>

/// Fills in the instruction's bytes, how much of its access is forbidden, and what a write would have written. The
/// address, the access and the block are known already; an address that the kernel could not name is completed.
/// May run in a signal handler.
void memprot_record_instruction(struct memprot_record *record, ucontext_t *context);
