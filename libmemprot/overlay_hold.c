#include "overlay_hold.h"

#include "page_state.h"

#include <errno.h>
#include <sched.h>

int memprot_overlay_hold(struct memprot_overlay *overlay, size_t first, size_t count) {
    for (size_t held = 0; held < count;) {
        size_t page = first + held;
        uint8_t state = atomic_load(&overlay->state[page]);
        if (state == MEMPROT_PAGE_FOREIGN || memprot_page_move(overlay, page, MEMPROT_PAGE_REAL, MEMPROT_PAGE_BUSY)) {
            held++;
        } else if (state == MEMPROT_PAGE_OPEN) {
            memprot_overlay_unhold(overlay, first, held);
            errno = EBUSY;
            return -1;
        } else {
            sched_yield(); // in a handler's hands for a moment
        }
    }
    return 0;
}

void memprot_overlay_unhold(struct memprot_overlay *overlay, size_t first, size_t count) {
    for (size_t page = first; page < first + count; page++)
        memprot_page_move(overlay, page, MEMPROT_PAGE_BUSY, MEMPROT_PAGE_REAL);
}

void memprot_overlay_abandon(struct memprot_overlay *overlay, size_t first, size_t count) {
    for (size_t page = first; page < first + count; page++) {
        while (!memprot_page_move(overlay, page, MEMPROT_PAGE_REAL, MEMPROT_PAGE_FOREIGN) &&
               !memprot_page_move(overlay, page, MEMPROT_PAGE_OPEN, MEMPROT_PAGE_FOREIGN) &&
               atomic_load(&overlay->state[page]) != MEMPROT_PAGE_FOREIGN)
            sched_yield(); // in a handler's hands for a moment
    }
}
