#include "armed.h"

#include "calls.h"
#include "epoch.h"
#include "overlay_close.h"
#include "overlay_hold.h"
#include "page.h"
#include "ranges.h"
#include "record.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALL = PROT_READ | PROT_WRITE | PROT_EXEC, ATTEMPTS = 1000 };

struct memprot_overlay *memprot_armed_create(uint64_t start, uint64_t stop, const struct memprot_mapping *mapping,
                                             const struct memprot_arming *arming, enum memprot_page_state state) {
    struct memprot_overlay *overlay = malloc(sizeof *overlay);
    if (!overlay)
        return NULL;
    enum memprot_backing backing = mapping->shared ? MEMPROT_BACKING_DUPLICATE : MEMPROT_BACKING_PRIVATE;
    if (memprot_overlay_init(overlay, start, (stop - start) / memprot_page_size(), backing, state, mapping->prot) < 0) {
        free(overlay);
        return NULL;
    }
    overlay->object = arming->object;
    overlay->object_size = arming->object_size;
    overlay->holders = 1;
    // Set before the overlay is published: handlers look at it without a lock.
    if (memprot_ranges_add(start, stop, overlay) == 0)
        return overlay;
    memprot_overlay_deinit(overlay);
    free(overlay);
    return NULL;
}

void memprot_armed_let_go(struct memprot_overlay *overlay) {
    if (!overlay || overlay->holders == 0 || --overlay->holders > 0)
        return;
    memprot_ranges_remove(overlay);
    memprot_record_close_pages(overlay, 0, overlay->pages);
    memprot_overlay_deinit(overlay);
    free(overlay);
}

// Keeps handlers from opening these pages; those that are open are closed.
int memprot_armed_hold(struct memprot_overlay *overlay, size_t first, size_t count) {
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        memprot_record_close_pages(overlay, first, count);
        if (memprot_overlay_hold(overlay, first, count) == 0)
            return 0;
        sched_yield(); // a handler has opened a page and not yet said so
    }
    // Nobody's record any more: closing it failed for want of memory when its fault was taken over.
    if (memprot_overlay_close(overlay, first, count) < 0)
        return -1;
    return memprot_overlay_hold(overlay, first, count);
}

static int change(struct memprot_overlay *overlay, size_t first, size_t count, unsigned long prot) {
    size_t size = memprot_page_size();
    if (memprot_armed_hold(overlay, first, count) < 0)
        return -1;
    int failed = memprot_mprotect(overlay->start + first * size, count * size, prot);
    if (!failed)
        memset(overlay->prot + first, (int)(prot & ALL), count);
    int error = errno;
    memprot_overlay_unhold(overlay, first, count);
    errno = error;
    return failed;
}

// Inside an epoch: no child is forked with pages that nobody will let go.
int memprot_armed_change(struct memprot_overlay *overlay, size_t first, size_t count, unsigned long prot) {
    int token = memprot_epoch_enter(), failed = change(overlay, first, count, prot), error = errno;
    memprot_epoch_leave(token);
    errno = error;
    return failed;
}

int memprot_armed_close(uint64_t start, uint64_t stop) {
    uintptr_t from = 0, to = 0;
    struct memprot_overlay *overlay;
    for (; start < stop && (overlay = memprot_ranges_next(start, &from, &to)) != NULL && from < stop; start = to) {
        size_t size = memprot_page_size(),
               first = (from > start ? from - overlay->start : start - overlay->start) / size;
        size_t count = ((to < stop ? to : stop) - overlay->start) / size - first;
        int token = memprot_epoch_enter(), failed = memprot_armed_hold(overlay, first, count);
        if (!failed)
            memprot_overlay_unhold(overlay, first, count);
        memprot_epoch_leave(token);
        if (failed)
            return -1;
    }
    return 0;
}
