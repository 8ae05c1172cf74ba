// Whether the pages of a slot may be accessed. Without the lock of the pools.
#pragma once

#include "guard_pool.h"

#include <signal.h>

/// Closes what is open of a slot and of the guards beside it, for the next block: a fault there may not have been
/// claimed yet.
void memprot_pool_close_around(struct memprot_pool *pool, const struct memprot_slot *slot);

/// Makes the data of a TAKEN slot inaccessible, and accessible again.
/// @return 0, or -1 with errno set: then nothing has changed.
int memprot_pool_forbid(struct memprot_pool *pool, const struct memprot_slot *slot);
int memprot_pool_allow(struct memprot_pool *pool, const struct memprot_slot *slot);

/// Whether forbidding it has discarded what was there. May run in a signal handler.
bool memprot_pool_forbids_by_guard(const struct memprot_pool *pool);

/// Whether a fault on the data of a pool has met pages that were forbidden then and are the next block's now. May run
/// in a signal handler.
bool memprot_pool_has_allowed(const siginfo_t *info, const struct memprot_overlay *overlay, size_t page, bool write);
