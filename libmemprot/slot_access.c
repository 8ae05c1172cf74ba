#include "slot_access.h"

#include "epoch.h"
#include "guard_pages.h"
#include "learn.h"
#include "overlay_close.h"
#include "page.h"
#include "page_state.h"
#include "record.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>

// Blocks of at least this size are forbidden by their protection, which leaves their pages what they are: a guard
// discards them, and who used them again would have to have each page filled anew. Smaller ones would cost too many
// mappings.
static const size_t by_protection = (size_t)64 << 10;

// May run in a signal handler.
bool memprot_pool_forbids_by_guard(const struct memprot_pool *pool) {
    return pool->data < by_protection || memprot_guard_pages_are_protections();
}

static size_t first_page(const struct memprot_pool *pool, const struct memprot_slot *slot) {
    return (memprot_pool_data_of(pool, slot) - pool->overlay.start) >> memprot_page_shift;
}

void memprot_pool_close_around(struct memprot_pool *pool, const struct memprot_slot *slot) {
    size_t guard = memprot_page_count(pool->stride - pool->data);
    memprot_record_close_pages(&pool->overlay, first_page(pool, slot) - guard,
                               2 * guard + memprot_page_count(pool->data));
}

// Inside an epoch, because a child that was forked meanwhile would have pages that nobody finishes.
int memprot_pool_forbid(struct memprot_pool *pool, const struct memprot_slot *slot) {
    struct memprot_overlay *overlay = &pool->overlay;
    uintptr_t start = memprot_pool_data_of(pool, slot);
    size_t first = first_page(pool, slot), count = memprot_page_count(pool->data);
    bool by_guard = memprot_pool_forbids_by_guard(pool);
    int token = memprot_epoch_enter();
    memprot_page_set(overlay, first, count, MEMPROT_PAGE_BUSY);
    int failed =
        by_guard ? memprot_guard_pages_install(start, pool->data) : mprotect((void *)start, pool->data, PROT_NONE);
    for (size_t page = first; page < first + count && !failed; page++)
        overlay->prot[page] = by_guard ? MEMPROT_GUARD_PAGE : MEMPROT_FORBIDDEN_PAGE;
    memprot_page_set(overlay, first, count, failed ? MEMPROT_PAGE_FOREIGN : MEMPROT_PAGE_REAL);
    memprot_epoch_leave(token);
    return failed;
}

// A page that a fault has opened is closed first. Inside an epoch.
static void take_in_hand(struct memprot_overlay *overlay, size_t page) {
    while (!memprot_page_move(overlay, page, MEMPROT_PAGE_REAL, MEMPROT_PAGE_BUSY)) {
        if (memprot_overlay_close(overlay, page, 1) < 0 &&
            memprot_page_move(overlay, page, MEMPROT_PAGE_OPEN, MEMPROT_PAGE_BUSY))
            return; // it cannot be closed, and is to be opened anyway
        sched_yield();
    }
}

int memprot_pool_allow(struct memprot_pool *pool, const struct memprot_slot *slot) {
    struct memprot_overlay *overlay = &pool->overlay;
    uintptr_t start = memprot_pool_data_of(pool, slot);
    size_t first = first_page(pool, slot), count = memprot_page_count(pool->data);
    if (memprot_record_waiting() > 0)
        memprot_pool_close_around(pool, slot);
    int token = memprot_epoch_enter();
    for (size_t page = first; page < first + count; page++)
        take_in_hand(overlay, page);
    int failed = overlay->prot[first] == MEMPROT_FORBIDDEN_PAGE
                     ? mprotect((void *)start, pool->data, PROT_READ | PROT_WRITE)
                     : memprot_guard_pages_remove(start, pool->data);
    memprot_page_set(overlay, first, count, failed ? MEMPROT_PAGE_REAL : MEMPROT_PAGE_FOREIGN);
    memprot_epoch_leave(token);
    return failed;
}

// A guard is told as if nothing were mapped there. May run in a signal handler.
bool memprot_pool_has_allowed(const siginfo_t *info, const struct memprot_overlay *overlay, size_t page, bool write) {
    uint8_t prot;
    if (overlay->backing != MEMPROT_BACKING_GUARD ||
        atomic_load_explicit(&overlay->state[page], memory_order_acquire) != MEMPROT_PAGE_FOREIGN ||
        !memprot_learn_now(overlay, page, &prot))
        return false;
    return info->si_code == SEGV_MAPERR || (prot & (write ? PROT_WRITE : PROT_READ));
}
