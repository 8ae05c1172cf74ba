#include "overlay_close.h"

#include "calls.h"
#include "duplicate.h"
#include "guard_pages.h"
#include "page.h"
#include "page_key.h"
#include "page_state.h"
#include "undecided.h"
#include "write_back.h"

#include <errno.h>
#include <sys/mman.h>

// What is kept of pages copied aside saves the next fault on them an allocation for each: that much for an overlay.
// Advice: when it fails, more is kept. May run in a signal handler.
static void give_back(const struct memprot_overlay *overlay, char *copy, size_t length) {
    static const size_t kept = (size_t)16 << 20;
    if (overlay->pages * memprot_page_size() > kept)
        madvise(copy, length, MADV_DONTNEED);
}

// A mapping is made without a key: those that need one allow nothing until they have it. May run in a signal handler.
int memprot_overlay_lay(struct memprot_overlay *overlay, size_t first, size_t count, int prot, int flags, int fd,
                        int key) {
    size_t size = memprot_page_size();
    void *start = (void *)(overlay->start + first * size);
    off_t offset = fd < 0 ? 0 : overlay->offset + (off_t)(first * size);
    if (mmap(start, count * size, key > 0 ? PROT_NONE : prot, flags | MAP_FIXED, fd, offset) == MAP_FAILED)
        return -1;
    return key > 0 ? memprot_protect_under_key((uintptr_t)start, count * size, (unsigned long)prot, key) : 0;
}

// May run in a signal handler.
static int close_private(struct memprot_overlay *overlay, size_t first, size_t count, uint8_t prot, uint8_t opened,
                         bool keep) {
    size_t size = memprot_page_size();
    uintptr_t start = overlay->start + first * size;
    char *copy = atomic_load(&overlay->aside) + first * size;
    bool hidden = opened & MEMPROT_PAGE_UNDER_OWN_KEY;
    int key = opened & MEMPROT_PAGE_KEY;
    // Protection first: were the copy written back before it, a blocked write still running elsewhere would
    // stay. But threads that have the right to a key may use the page again only when the copy is on it.
    if (hidden && !keep ? memprot_protect_under_key(start, count * size, PROT_READ, memprot_own_key()) < 0
                        : memprot_protect_under_key(start, count * size, prot, key) < 0)
        return -1;
    if (!keep && memprot_write_back(start, copy, count * size, prot, key) < 0)
        return -1;
    give_back(overlay, copy, count * size);
    return 0;
}

// Keeps of a decoy what was written to it. May run in a signal handler.
static int keep_written(struct memprot_overlay *overlay, size_t first, size_t count) {
    size_t size = memprot_page_size(), length = count * size;
    uintptr_t start = overlay->start + first * size;
    char *opened = atomic_load(&overlay->opened) + first * size;
    if (overlay->backing == MEMPROT_BACKING_SHARED)
        return memprot_undecided_keep(start, opened, length, overlay->fd, overlay->offset + (off_t)(first * size));
    return memprot_undecided_keep_aside(start, opened, length, atomic_load(&overlay->aside) + first * size,
                                        overlay->prot[first]);
}

// What comes of closing: failed, done, or done but what was to be kept is lost.
enum { NOT_CLOSED = -1, CLOSED, LOST };

// May run in a signal handler.
static int close_pages(struct memprot_overlay *overlay, size_t first, size_t count, bool keep) {
    size_t size = memprot_page_size();
    uintptr_t start = overlay->start + first * size;
    uint8_t prot = overlay->prot[first], how = overlay->key[first];
    keep |= how & MEMPROT_PAGE_KEPT;
    if (overlay->backing == MEMPROT_BACKING_GUARD && prot == MEMPROT_FORBIDDEN_PAGE)
        return memprot_mprotect(start, count * size, PROT_NONE);
    if (overlay->backing == MEMPROT_BACKING_GUARD) {
        if (memprot_guard_pages_install(start, count * size) < 0)
            return NOT_CLOSED;
        return how & MEMPROT_PAGE_UNDER_OWN_KEY
                   ? memprot_protect_under_key(start, count * size, PROT_READ | PROT_WRITE, 0)
                   : CLOSED;
    }
    if (how & MEMPROT_PAGE_AS_IT_IS)
        return memprot_mprotect(start, count * size, prot);
    if (overlay->backing == MEMPROT_BACKING_PRIVATE)
        return close_private(overlay, first, count, prot, how, keep);
    int lost = keep && (how & MEMPROT_PAGE_COMPARABLE) && keep_written(overlay, first, count) < 0 ? LOST : CLOSED,
        error = errno;
    int failed = overlay->backing == MEMPROT_BACKING_SHARED
                     ? memprot_overlay_lay(overlay, first, count, prot, MAP_SHARED, overlay->fd, how & MEMPROT_PAGE_KEY)
                     : memprot_duplicate_restore(start, atomic_load(&overlay->aside) + first * size, count * size);
    if (!failed && (how & MEMPROT_PAGE_COMPARABLE))
        give_back(overlay, atomic_load(&overlay->opened) + first * size, count * size);
    if (lost && !failed)
        errno = error;
    return failed ? NOT_CLOSED : lost;
}

// May run in a signal handler.
static bool alike(const struct memprot_overlay *overlay, size_t page, size_t other) {
    return overlay->prot[page] == overlay->prot[other] && overlay->key[page] == overlay->key[other];
}

// May run in a signal handler.
static int close_open(struct memprot_overlay *overlay, size_t first, size_t count, bool keep) {
    int worst = CLOSED;
    for (size_t page = first; page < first + count;) {
        size_t run = 0;
        while (page + run < first + count && (run == 0 || alike(overlay, page, page + run)) &&
               memprot_page_move(overlay, page + run, MEMPROT_PAGE_OPEN, MEMPROT_PAGE_BUSY))
            run++;
        if (run > 0) {
            int result = close_pages(overlay, page, run, keep);
            memprot_page_set(overlay, page, run, result == NOT_CLOSED ? MEMPROT_PAGE_OPEN : MEMPROT_PAGE_REAL);
            if (result == NOT_CLOSED || worst == CLOSED)
                worst = result;
        }
        page += run ? run : 1;
    }
    return worst;
}

// May run in a signal handler.
int memprot_overlay_close(struct memprot_overlay *overlay, size_t first, size_t count) {
    return close_open(overlay, first, count, false) == NOT_CLOSED ? -1 : 0;
}

int memprot_overlay_keep(struct memprot_overlay *overlay, size_t first, size_t count) {
    return close_open(overlay, first, count, true) == CLOSED ? 0 : -1;
}
