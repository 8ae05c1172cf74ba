// Recovery on memory that others made, for as long as protections use it.
//
// An overlay that is shared counts its holders; that of a Region, which has an owner, counts none. Counts change under
// the mutex of protection.c.
#pragma once

#include "mapping.h"
#include "overlay.h"

/// What is to be armed, and what faults are told of.
struct memprot_arming {
    uint64_t start, stop; // whole pages that hold raw data and nothing else
    uint64_t object;
    size_t object_size;
};

/// An overlay for pages of one mapping, published and held once.
/// @param[in] state real, or foreign for pages whose faults are to be reported and not recovered.
/// @return NULL without memory or room: nobody answers for the pages, and the process dies of their faults
///         without a word.
struct memprot_overlay *memprot_armed_create(uint64_t start, uint64_t stop, const struct memprot_mapping *mapping,
                                             const struct memprot_arming *arming, enum memprot_page_state state);

/// One holder fewer; the last one withdraws and frees it. Nothing for NULL and for an overlay that has an owner.
void memprot_armed_let_go(struct memprot_overlay *overlay);

/// Keeps handlers from opening these pages until memprot_overlay_unhold; those that are open are closed.
/// @return 0, or -1 with errno set when one cannot be closed.
int memprot_armed_hold(struct memprot_overlay *overlay, size_t first, size_t count);

/// Changes the protection of pages of an overlay, closing those that are open.
/// @return 0, or -1 with errno set.
int memprot_armed_change(struct memprot_overlay *overlay, size_t first, size_t count, unsigned long prot);

/// Closes whatever is open in [start, stop), which the caller keeps.
/// @return 0, or -1 with errno set when a page cannot be closed.
int memprot_armed_close(uint64_t start, uint64_t stop);
