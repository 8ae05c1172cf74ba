#include "overlay.h"

#include "access.h"
#include "calls.h"
#include "duplicate.h"
#include "guard_pages.h"
#include "key_rights.h"
#include "learn.h"
#include "overlay_close.h"
#include "page.h"
#include "page_key.h"
#include "page_state.h"
#include "undecided.h"
#include "write_back.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int memprot_overlay_init(struct memprot_overlay *overlay, uintptr_t start, size_t pages, enum memprot_backing backing,
                         enum memprot_page_state state, uint8_t prot) {
    // One mapping for the three arrays: calloc would do, but a guarded malloc may be built on overlays one day.
    uint8_t *arrays = overlay->few;
    if (pages > MEMPROT_OVERLAY_FEW) {
        arrays = mmap(NULL, memprot_page_ceil(3 * pages), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (arrays == MAP_FAILED)
            return -1;
    }
    *overlay = (struct memprot_overlay){
        .start = start,
        .pages = pages,
        .backing = backing,
        .fd = -1,
        .prot = arrays,
        .state = (_Atomic uint8_t *)(arrays + pages),
        .key = arrays + 2 * pages,
        .policy = MEMPROT_POLICY_NONE,
    };
    memset(arrays, prot, pages);
    memset(arrays + pages, (int)state, pages);
    return 0;
}

void memprot_overlay_deinit(struct memprot_overlay *overlay) {
    if (overlay->prot && overlay->prot != overlay->few)
        munmap(overlay->prot, memprot_page_ceil(3 * overlay->pages));
    char *aside = atomic_exchange(&overlay->aside, NULL), *opened = atomic_exchange(&overlay->opened, NULL);
    if (aside)
        munmap(aside, overlay->pages * memprot_page_size());
    if (opened)
        munmap(opened, overlay->pages * memprot_page_size());
    overlay->prot = NULL;
}

// May run in a signal handler.
static bool permits(uint8_t prot, bool write) { return prot & (write ? PROT_WRITE : PROT_READ); }

// As much memory as the pages take, once it is needed. May run in a signal handler.
static char *as_much(const struct memprot_overlay *overlay, _Atomic(char *) *there) {
    char *known = atomic_load_explicit(there, memory_order_acquire);
    if (known)
        return known;
    size_t length = overlay->pages * memprot_page_size();
    char *fresh = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh == MAP_FAILED)
        return NULL;
    if (atomic_compare_exchange_strong(there, &known, fresh))
        return fresh;
    munmap(fresh, length);
    return known;
}

// May run in a signal handler.
static char *aside_of(struct memprot_overlay *overlay) { return as_much(overlay, &overlay->aside); }

// From all threads but those that are blocked, where that can be done. May run in a signal handler.
static void hide(struct memprot_overlay *overlay, size_t first, size_t count, const struct memprot_blocked *blocked,
                 int *ret) {
    if (!blocked->alone || blocked->fate != MEMPROT_FATE_DISCARDED || (*ret = memprot_own_key()) == MEMPROT_NO_KEY)
        return;
    for (size_t page = first; page < first + count; page++)
        overlay->key[page] |= MEMPROT_PAGE_UNDER_OWN_KEY;
    memprot_key_rights_write(memprot_own_key_granted(memprot_key_rights_read()));
}

// What opening has to undo later is asked first: a key that was freed meanwhile cannot be given to memory again.
// Settles under which key the pages are while they are open. May run in a signal handler.
static int prepare_keys(struct memprot_overlay *overlay, size_t first, size_t count, uint8_t prot,
                        const struct memprot_blocked *blocked, int *ret) {
    size_t size = memprot_page_size();
    uintptr_t start = overlay->start + first * size;
    *ret = MEMPROT_NO_KEY;
    if (blocked->key != MEMPROT_NO_KEY) {
        overlay->key[first] = (uint8_t)(blocked->key | MEMPROT_PAGE_UNDER_OWN_KEY);
        if (memprot_protect_under_key(start, size, prot, blocked->key) < 0 ||
            (*ret = memprot_own_key()) == MEMPROT_NO_KEY)
            return -1;
        memprot_key_rights_write(memprot_own_key_granted(memprot_key_rights_read()));
        return 0;
    }
    memset(overlay->key + first, 0, count);
    if (!memprot_has_key_rights())
        return 0;
    if (!(prot & PROT_READ) && memprot_mprotect(start, count * size, PROT_READ) < 0)
        return -1;
    for (size_t page = first; page < first + count; page++)
        overlay->key[page] = (uint8_t)memprot_page_key(overlay->start + page * size);
    hide(overlay, first, count, blocked, ret);
    return 0;
}

// Pages that others forbid again at this very moment are as open as those they forbid later. May run in a signal
// handler.
static void clear(uintptr_t start, size_t length) {
    static const char zeros[4096]; // page sizes are multiples of it
    for (size_t done = 0; done < length; done += sizeof zeros) {
        if (memprot_access_copy((void *)(start + done), zeros, sizeof zeros) > 0)
            break;
    }
}

// May run in a signal handler.
static int open_private(struct memprot_overlay *overlay, size_t first, size_t count, uint8_t prot, int key, bool zero) {
    size_t size = memprot_page_size();
    uintptr_t start = overlay->start + first * size;
    char *aside = aside_of(overlay);
    if (!aside)
        return -1;
    // Read-only while it is copied: a write of another thread must not slip in before the copy is complete.
    if ((key > 0 || !(prot & PROT_READ)) && memprot_protect_under_key(start, count * size, PROT_READ, key) < 0)
        return -1;
    if (memprot_access_copy(aside + first * size, (void *)start, count * size) > 0) {
        // Others have just forbidden it, unless the file has become shorter.
        errno = memprot_access_last_failure()->signal == SIGBUS ? ENODATA : ESTALE;
        return -1;
    }
    if (memprot_protect_under_key(start, count * size, PROT_READ | PROT_WRITE | (prot & PROT_EXEC), key) < 0)
        return -1;
    if (zero)
        clear(start, count * size);
    return 0;
}

// May run in a signal handler.
static int lay_copy_over(struct memprot_overlay *overlay, size_t first, size_t count, uint8_t prot, int key, bool zero,
                         char *opened) {
    size_t size = memprot_page_size();
    char *aside = aside_of(overlay);
    return aside ? memprot_duplicate_replace(overlay->start + first * size, aside + first * size, count * size, prot,
                                             key, zero, opened)
                 : -1;
}

// May run in a signal handler.
static int open_shared(struct memprot_overlay *overlay, size_t first, size_t count, uint8_t prot, int key, bool zero,
                       bool comparable) {
    size_t size = memprot_page_size();
    char *opened = comparable ? as_much(overlay, &overlay->opened) : NULL;
    if (comparable && !opened)
        return -1;
    for (size_t page = first, run = 0; page < first + count; page += run, run = 0) {
        while (page + run < first + count && overlay->key[page + run] == overlay->key[page])
            run++;
        int under = key > 0 ? key : overlay->key[page];
        char *copy = opened ? opened + page * size : NULL;
        if (overlay->backing == MEMPROT_BACKING_DUPLICATE) {
            if (lay_copy_over(overlay, page, run, prot, under, zero, copy) < 0)
                return -1;
            continue;
        }
        if (copy && memprot_undecided_lay_over(overlay->start + page * size, copy, run * size, prot, under, overlay->fd,
                                               overlay->offset + (off_t)(page * size)) < 0)
            return -1;
        if (copy)
            continue;
        if (zero ? memprot_overlay_lay(overlay, page, run, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                                       under) < 0
                 : memprot_overlay_lay(overlay, page, run, PROT_READ | PROT_WRITE | (prot & PROT_EXEC),
                                       MAP_PRIVATE | MAP_POPULATE, overlay->fd, under) < 0)
            return -1;
    }
    return 0;
}

// Guards that are protections, of kernels without better ones, have none to put back a key with. May run in a signal
// handler.
static int open_guard(struct memprot_overlay *overlay, size_t first, size_t count,
                      const struct memprot_blocked *blocked) {
    size_t size = memprot_page_size(), length = count * size;
    uintptr_t start = overlay->start + first * size;
    int key = MEMPROT_NO_KEY;
    memset(overlay->key + first, 0, count);
    bool by_protection = memprot_guard_pages_are_protections() || overlay->prot[first] == MEMPROT_FORBIDDEN_PAGE;
    if (!by_protection)
        hide(overlay, first, count, blocked, &key);
    if (key != MEMPROT_NO_KEY && memprot_protect_under_key(start, length, PROT_READ | PROT_WRITE, key) < 0)
        return -1;
    if (overlay->prot[first] != MEMPROT_FORBIDDEN_PAGE)
        return memprot_guard_pages_remove(start, length);
    if (memprot_mprotect(start, length, PROT_READ | PROT_WRITE) < 0)
        return -1;
    clear(start, length);
    return 0;
}

// Lets the access happen. May run in a signal handler.
static int open_as_it_is(uintptr_t start, size_t length, uint8_t prot, bool write) {
    if (memprot_mprotect(start, length, PROT_READ | PROT_WRITE | (prot & PROT_EXEC)) == 0)
        return 0;
    return write ? -1 : memprot_mprotect(start, length, PROT_READ | (prot & PROT_EXEC)); // the file may only be read
}

// May run in a signal handler.
static int open_pages(struct memprot_overlay *overlay, size_t first, size_t count, uint8_t prot,
                      const struct memprot_blocked *blocked) {
    size_t size = memprot_page_size();
    uintptr_t start = overlay->start + first * size;
    int key = MEMPROT_NO_KEY;
    if (overlay->backing == MEMPROT_BACKING_GUARD)
        return open_guard(overlay, first, count, blocked);
    bool by_key = blocked->key != MEMPROT_NO_KEY, unreadable = !(prot & PROT_READ) || (by_key && blocked->unreadable);
    bool discarded = blocked->fate == MEMPROT_FATE_DISCARDED, private = overlay->backing == MEMPROT_BACKING_PRIVATE;
    uint8_t how = discarded || private ? 0 : MEMPROT_PAGE_COMPARABLE;
    int failed = prepare_keys(overlay, first, count, prot, blocked, &key);
    if (!failed && blocked->fate == MEMPROT_FATE_KEPT) {
        if (by_key)
            how |= MEMPROT_PAGE_KEPT;
        else // what the kernel does not let happen at all is discarded
            how = open_as_it_is(start, count * size, prot, blocked->write) == 0 ? MEMPROT_PAGE_AS_IT_IS : 0;
    }
    if (!failed && how != MEMPROT_PAGE_AS_IT_IS)
        failed = private ? open_private(overlay, first, count, prot, key, unreadable && discarded)
                         : open_shared(overlay, first, count, prot, key, unreadable && discarded,
                                       how & MEMPROT_PAGE_COMPARABLE);
    for (size_t page = first; page < first + count && !failed; page++)
        overlay->key[page] |= how;
    if (failed) {
        int error = errno; // what comes next is all there is to do, and may fail for the same reason
        for (size_t page = first; page < first + count; page++)
            memprot_protect_under_key(overlay->start + page * size, size, prot, overlay->key[page] & MEMPROT_PAGE_KEY);
        errno = error;
    }
    return failed;
}

// Pages around one in hand that are like it, taken in hand as well. May run in a signal handler.
static size_t extend(struct memprot_overlay *overlay, size_t page, size_t window, int direction, size_t *first) {
    size_t low = page, high = page + 1;
    while (high - low < window) {
        size_t next = direction > 0 ? high : low - 1;
        if (next >= overlay->pages || !memprot_page_move(overlay, next, MEMPROT_PAGE_REAL, MEMPROT_PAGE_BUSY))
            break;
        *(direction > 0 ? &high : &low) = direction > 0 ? high + 1 : next;
    }
    if (overlay->backing != MEMPROT_BACKING_GUARD)
        memprot_learn_pages(overlay, low, high - low);
    size_t from = page, to = page + 1;
    while (from > low && overlay->prot[from - 1] == overlay->prot[page])
        from--;
    while (to < high && overlay->prot[to] == overlay->prot[page])
        to++;
    memprot_page_set(overlay, low, from - low, MEMPROT_PAGE_REAL);
    memprot_page_set(overlay, to, high - to, MEMPROT_PAGE_REAL);
    *first = from;
    return to - from;
}

// A page that is open and forbids the access nevertheless: others have changed its protection meanwhile. That is what
// it gets when it is closed. May run in a signal handler.
static enum memprot_opening open_again(struct memprot_overlay *overlay, size_t page, bool write) {
    size_t size = memprot_page_size();
    uintptr_t start = overlay->start + page * size;
    uint8_t prot;
    if (overlay->backing == MEMPROT_BACKING_GUARD ||
        !memprot_page_move(overlay, page, MEMPROT_PAGE_OPEN, MEMPROT_PAGE_BUSY))
        return MEMPROT_RETRY;
    if (overlay->key[page] & MEMPROT_PAGE_AS_IT_IS) {
        // No decoy: it is opened anew. Where its file may only be read, it was opened for reading only.
        if (!(overlay->prot[page] & PROT_READ) && memprot_learn_now(overlay, page, &prot) && prot == PROT_READ)
            (void)memprot_mprotect(start, size, overlay->prot[page]);
        memprot_page_set(overlay, page, 1, MEMPROT_PAGE_REAL);
        return MEMPROT_RETRY;
    }
    enum memprot_opening opening = MEMPROT_RETRY;
    if (memprot_learn_now(overlay, page, &prot) && !permits(prot, write)) {
        int failed = memprot_mprotect(start, size, PROT_READ | PROT_WRITE | (prot & PROT_EXEC));
        if (!failed && overlay->backing == MEMPROT_BACKING_DUPLICATE)
            failed = memprot_mprotect((uintptr_t)atomic_load(&overlay->aside) + page * size, size, prot);
        if (!failed && !(prot & PROT_READ))
            clear(start, size);
        if (!failed)
            overlay->prot[page] = prot;
        opening = failed ? MEMPROT_REFUSED : MEMPROT_OPENED;
    }
    memprot_page_set(overlay, page, 1, MEMPROT_PAGE_OPEN);
    return opening;
}

// May run in a signal handler.
enum memprot_opening memprot_overlay_open(struct memprot_overlay *overlay, size_t page,
                                          const struct memprot_blocked *blocked, size_t window, int direction,
                                          size_t *first, size_t *count) {
    bool by_own_key = memprot_is_own_key(blocked->key), by_key = blocked->key != MEMPROT_NO_KEY;
    *first = page;
    *count = 1;
    if (!memprot_page_move(overlay, page, MEMPROT_PAGE_REAL, MEMPROT_PAGE_BUSY)) {
        uint8_t state = atomic_load_explicit(&overlay->state[page], memory_order_acquire);
        errno = EFAULT;
        if (state == MEMPROT_PAGE_OPEN && by_own_key)
            return MEMPROT_OPEN_FOR_OTHERS;
        if (state == MEMPROT_PAGE_OPEN && !by_key)
            return open_again(overlay, page, blocked->write);
        return state == MEMPROT_PAGE_FOREIGN ? MEMPROT_REFUSED : MEMPROT_RETRY;
    }
    bool guard = overlay->backing == MEMPROT_BACKING_GUARD, mapped = guard || memprot_learn_pages(overlay, page, 1);
    // Stable now: whoever of memprot changes it has to close the page, hence own it, first.
    if (!mapped || by_own_key || (!by_key && !guard && permits(overlay->prot[page], blocked->write))) {
        memprot_page_set(overlay, page, 1, MEMPROT_PAGE_REAL);
        errno = EFAULT;
        return mapped ? MEMPROT_ALLOWED : MEMPROT_REFUSED;
    }
    if (window > 1 && !by_key)
        *count = extend(overlay, page, window, direction, first);
    int failed = by_key && guard ? -1 : open_pages(overlay, *first, *count, overlay->prot[page], blocked);
    memprot_page_set(overlay, *first, *count, failed ? MEMPROT_PAGE_REAL : MEMPROT_PAGE_OPEN);
    if (failed)
        return errno == ESTALE ? MEMPROT_RETRY : errno == ENODATA ? MEMPROT_WITHOUT_BYTES : MEMPROT_REFUSED;
    return MEMPROT_OPENED;
}

// May run in a signal handler.
int memprot_overlay_key(const struct memprot_overlay *overlay, size_t page) {
    return overlay->key[page] & MEMPROT_PAGE_KEY;
}

// May run in a signal handler.
bool memprot_overlay_permits(struct memprot_overlay *overlay, size_t page, bool write) {
    memprot_overlay_learn(overlay, page, 1);
    return permits(overlay->prot[page], write);
}

// May run in a signal handler.
void memprot_overlay_learn(struct memprot_overlay *overlay, size_t first, size_t count) {
    if (overlay->backing == MEMPROT_BACKING_GUARD)
        return;
    for (size_t page = first, run = 0; page < first + count; page += run ? run : 1, run = 0) {
        while (page + run < first + count &&
               memprot_page_move(overlay, page + run, MEMPROT_PAGE_REAL, MEMPROT_PAGE_BUSY))
            run++;
        memprot_learn_pages(overlay, page, run);
        memprot_page_set(overlay, page, run, MEMPROT_PAGE_REAL);
    }
}
