// Freed blocks that stay inaccessible for a while, so that whoever still uses one is found: first in, first out.
#pragma once

#include "guard_pool.h"

/// Keeps a slot that is TAKEN, and gives back the oldest that are too many now.
/// @return false when it cannot be kept: it is the caller's still.
bool memprot_quarantine_put(struct memprot_pool *pool, struct memprot_slot *slot);

/// How many bytes of each owner's blocks are kept. May run in a signal handler.
uint64_t memprot_quarantine_bytes(enum memprot_guard_owner of);
