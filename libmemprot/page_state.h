// How an overlay's pages change hands, and what those who open them leave for those who close them.
#pragma once

#include "overlay.h"

// Of an open page, beside its key: that it lies under memprot's own meanwhile; that the access really happens there;
// that what is written to a decoy stays, and that a copy tells what that is.
enum {
    MEMPROT_PAGE_UNDER_OWN_KEY = 0x80,
    MEMPROT_PAGE_AS_IT_IS = 0x40,
    MEMPROT_PAGE_KEPT = 0x20,
    MEMPROT_PAGE_COMPARABLE = 0x10,
    MEMPROT_PAGE_KEY = 0x0f
};

/// Takes a page from one state to another, unless it is in a third. May run in a signal handler.
static inline bool memprot_page_move(struct memprot_overlay *overlay, size_t page, uint8_t from, uint8_t to) {
    return atomic_compare_exchange_strong_explicit(&overlay->state[page], &from, to, memory_order_acq_rel,
                                                   memory_order_acquire);
}

/// Lets go of pages that are busy by the caller's doing. May run in a signal handler.
static inline void memprot_page_set(struct memprot_overlay *overlay, size_t first, size_t count, uint8_t state) {
    for (size_t page = first; page < first + count; page++)
        atomic_store_explicit(&overlay->state[page], state, memory_order_release);
}
