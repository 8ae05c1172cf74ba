// Which overlay answers for an address: the memory that memprot owns.
#pragma once

#include "overlay.h"

/// Publishes [start, stop) as answered for by @p overlay.
/// @return 0, or -1 with errno ENOSPC when the table is full.
int memprot_ranges_add(uintptr_t start, uintptr_t stop, struct memprot_overlay *overlay);

/// Withdraws it; on return no handler uses the overlay any more.
void memprot_ranges_remove(struct memprot_overlay *overlay);

/// @return the overlay that answers for @p address, or NULL. Between memprot_epoch_enter and _leave.
/// May run in a signal handler.
struct memprot_overlay *memprot_ranges_find(uintptr_t address);

/// The range that holds @p address, or else the first one behind it.
/// @return its overlay, or NULL when there is none. It stays only while the caller keeps the memory of the range, or
/// between memprot_epoch_enter and _leave. May run in a signal handler.
struct memprot_overlay *memprot_ranges_next(uintptr_t address, uintptr_t *start, uintptr_t *stop);
