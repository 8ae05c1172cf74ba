// Keeping handlers away from an overlay's pages.
#pragma once

#include "overlay.h"

/// Keeps handlers from opening pages until they are let go again, so that what the kernel says of them is their own
/// protection. Whoever changes it writes `prot` as well.
/// @return 0, or -1 with errno EBUSY when a page is open.
int memprot_overlay_hold(struct memprot_overlay *overlay, size_t first, size_t count);
void memprot_overlay_unhold(struct memprot_overlay *overlay, size_t first, size_t count);

/// Answers for these pages no more: something else is mapped there. Nothing in memory is touched.
void memprot_overlay_abandon(struct memprot_overlay *overlay, size_t first, size_t count);
