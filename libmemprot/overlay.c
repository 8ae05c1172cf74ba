#include "overlay.h"

#include "calls.h"
#include "kernel_abi.h"
#include "page.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Bytes from which pages copied aside are given back when their originals are restored.
static const size_t kept_aside = (size_t)16 << 20;

// 0 unknown, 1 madvise, 2 mprotect. Written once by whoever asks first; every writer stores the same value.
static atomic_int guard_means;

bool memprot_overlay_guards_by_madvise(void) {
    int means = atomic_load_explicit(&guard_means, memory_order_relaxed);
    if (means == 0) {
        size_t size = memprot_page_size();
        void *trial = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (trial == MAP_FAILED)
            return true; // undecided: there is no memory for the trial now, and none for a guard either
        means = madvise(trial, size, MADV_GUARD_INSTALL) == 0 ? 1 : 2;
        munmap(trial, size);
        atomic_store_explicit(&guard_means, means, memory_order_relaxed);
    }
    return means == 1;
}

// May run in a signal handler.
int memprot_overlay_install_guard(uintptr_t start, size_t length) {
    if (atomic_load_explicit(&guard_means, memory_order_relaxed) != 2)
        return madvise((void *)start, length, MADV_GUARD_INSTALL);
    if (memprot_mprotect(start, length, PROT_NONE) < 0)
        return -1;
    return madvise((void *)start, length, MADV_DONTNEED);
}

// May run in a signal handler.
static int remove_guard(uintptr_t start, size_t length) {
    if (atomic_load_explicit(&guard_means, memory_order_relaxed) != 2)
        return madvise((void *)start, length, MADV_GUARD_REMOVE);
    return memprot_mprotect(start, length, PROT_READ | PROT_WRITE);
}

int memprot_overlay_init(struct memprot_overlay *overlay, uintptr_t start, size_t pages, enum memprot_backing backing,
                         enum memprot_page_state state, uint8_t prot) {
    // One mapping for both arrays: calloc would do, but a guarded malloc may be built on overlays one day.
    size_t bytes = memprot_page_ceil(2 * pages);
    uint8_t *arrays = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (arrays == MAP_FAILED)
        return -1;
    memset(arrays, prot, pages);
    memset(arrays + pages, (int)state, pages);
    *overlay = (struct memprot_overlay){
        .start = start,
        .pages = pages,
        .backing = backing,
        .fd = -1,
        .prot = arrays,
        .state = (_Atomic uint8_t *)(arrays + pages),
    };
    return 0;
}

void memprot_overlay_deinit(struct memprot_overlay *overlay) {
    if (overlay->prot)
        munmap(overlay->prot, memprot_page_ceil(2 * overlay->pages));
    char *aside = atomic_load(&overlay->aside);
    if (aside)
        munmap(aside, overlay->pages * memprot_page_size());
    overlay->prot = NULL;
    atomic_store(&overlay->aside, NULL);
}

// May run in a signal handler.
static bool permits(uint8_t prot, bool write) { return prot & (write ? PROT_WRITE : PROT_READ); }

// May run in a signal handler.
static bool move_state(struct memprot_overlay *overlay, size_t page, uint8_t from, uint8_t to) {
    return atomic_compare_exchange_strong_explicit(&overlay->state[page], &from, to, memory_order_acq_rel,
                                                   memory_order_acquire);
}

// May run in a signal handler.
static void set_state(struct memprot_overlay *overlay, size_t first, size_t count, uint8_t state) {
    for (size_t page = first; page < first + count; page++)
        atomic_store_explicit(&overlay->state[page], state, memory_order_release);
}

// May run in a signal handler.
static char *aside_of(struct memprot_overlay *overlay) {
    char *aside = atomic_load_explicit(&overlay->aside, memory_order_acquire);
    if (aside)
        return aside;
    size_t length = overlay->pages * memprot_page_size();
    char *fresh = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh == MAP_FAILED)
        return NULL;
    if (atomic_compare_exchange_strong(&overlay->aside, &aside, fresh))
        return fresh;
    munmap(fresh, length);
    return aside;
}

// May run in a signal handler.
static int open_private(struct memprot_overlay *overlay, size_t first, size_t count, uint8_t prot) {
    size_t size = memprot_page_size();
    uintptr_t start = overlay->start + first * size;
    char *aside = aside_of(overlay);
    if (!aside)
        return -1;
    // Read-only while it is copied: a write of another thread must not slip in before the copy is complete.
    if (!(prot & PROT_READ) && memprot_mprotect(start, count * size, PROT_READ) < 0)
        return -1;
    memcpy(aside + first * size, (void *)start, count * size);
    if (memprot_mprotect(start, count * size, PROT_READ | PROT_WRITE | (prot & PROT_EXEC)) < 0) {
        int error = errno;
        if (!(prot & PROT_READ))
            memprot_mprotect(start, count * size, prot);
        errno = error;
        return -1;
    }
    if (!(prot & PROT_READ))
        memset((void *)start, 0, count * size);
    return 0;
}

// Opened when first needed, replaced after a fork, since the descriptor speaks of the memory of whoever
// opened it.
static atomic_int own_memory = -1;

// May run in a signal handler.
static int write_through(uintptr_t address, const char *from, size_t length) {
    int fd = atomic_load(&own_memory);
    if (fd < 0) {
        fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return -1;
        int none = -1;
        if (!atomic_compare_exchange_strong(&own_memory, &none, fd)) {
            close(fd);
            fd = none;
        }
    }
    while (length > 0) {
        ssize_t written = pwrite(fd, from, length, (off_t)address);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return -1;
        address += (size_t)written;
        from += written;
        length -= (size_t)written;
    }
    return 0;
}

// For kernels that let no process write its read-only memory through /proc: new pages with the content take
// the place of the old ones at once. It costs a mapping that will not merge with its neighbours. May run in a
// signal handler.
static int replace_pages(uintptr_t start, const char *from, size_t length, uint8_t prot) {
    char *fresh = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED)
        return -1;
    memcpy(fresh, from, length);
    if (memprot_mprotect((uintptr_t)fresh, length, prot) == 0 &&
        mremap(fresh, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start) != MAP_FAILED)
        return 0;
    munmap(fresh, length);
    return -1;
}

// May run in a signal handler.
static int close_private(struct memprot_overlay *overlay, size_t first, size_t count, uint8_t prot) {
    size_t size = memprot_page_size();
    uintptr_t start = overlay->start + first * size;
    char *copy = atomic_load(&overlay->aside) + first * size;
    // Protection first: were the copy written back before it, a blocked write still running elsewhere would
    // stay.
    if (memprot_mprotect(start, count * size, prot) < 0)
        return -1;
    if (write_through(start, copy, count * size) < 0 && replace_pages(start, copy, count * size, prot) < 0)
        return -1;
    // What is kept saves the next fault on these pages an allocation for each. Advice: when it fails, more is kept.
    if (count * size >= kept_aside)
        madvise(copy, count * size, MADV_DONTNEED);
    return 0;
}

// May run in a signal handler.
static int lay_over(struct memprot_overlay *overlay, size_t first, size_t count, int prot, int flags, int fd) {
    size_t size = memprot_page_size();
    void *start = (void *)(overlay->start + first * size);
    off_t offset = fd < 0 ? 0 : overlay->offset + (off_t)(first * size);
    return mmap(start, count * size, prot, flags | MAP_FIXED, fd, offset) == MAP_FAILED ? -1 : 0;
}

// May run in a signal handler.
static int open_pages(struct memprot_overlay *overlay, size_t first, size_t count, uint8_t prot) {
    size_t size = memprot_page_size();
    switch (overlay->backing) {
    case MEMPROT_BACKING_PRIVATE:
        return open_private(overlay, first, count, prot);
    case MEMPROT_BACKING_SHARED:
        if (prot & PROT_READ)
            return lay_over(overlay, first, count, PROT_READ | PROT_WRITE | (prot & PROT_EXEC),
                            MAP_PRIVATE | MAP_POPULATE, overlay->fd);
        return lay_over(overlay, first, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    case MEMPROT_BACKING_GUARD:
        return remove_guard(overlay->start + first * size, count * size);
    }
    errno = EINVAL;
    return -1;
}

// May run in a signal handler.
enum memprot_opening memprot_overlay_open(struct memprot_overlay *overlay, size_t page, bool write, size_t window,
                                          int direction, size_t *first, size_t *count) {
    if (!move_state(overlay, page, MEMPROT_PAGE_REAL, MEMPROT_PAGE_BUSY)) {
        uint8_t state = atomic_load_explicit(&overlay->state[page], memory_order_acquire);
        errno = EFAULT;
        return state == MEMPROT_PAGE_FOREIGN ? MEMPROT_REFUSED : MEMPROT_RETRY;
    }
    uint8_t prot = overlay->prot[page]; // stable now: whoever changes it has to close the page, hence own it, first
    if (overlay->backing != MEMPROT_BACKING_GUARD && permits(prot, write)) {
        set_state(overlay, page, 1, MEMPROT_PAGE_REAL);
        return MEMPROT_ALLOWED;
    }
    size_t low = page, high = page + 1;
    while (high - low < window) {
        size_t next = direction > 0 ? high : low - 1;
        if (next >= overlay->pages || !move_state(overlay, next, MEMPROT_PAGE_REAL, MEMPROT_PAGE_BUSY))
            break;
        if (overlay->prot[next] != prot) {
            set_state(overlay, next, 1, MEMPROT_PAGE_REAL);
            break;
        }
        if (direction > 0)
            high++;
        else
            low--;
    }
    *first = low;
    *count = high - low;
    int failed = open_pages(overlay, low, high - low, prot);
    set_state(overlay, low, high - low, failed ? MEMPROT_PAGE_REAL : MEMPROT_PAGE_OPEN);
    return failed ? MEMPROT_REFUSED : MEMPROT_OPENED;
}

// May run in a signal handler.
static int close_pages(struct memprot_overlay *overlay, size_t first, size_t count) {
    size_t size = memprot_page_size();
    uint8_t prot = overlay->prot[first];
    switch (overlay->backing) {
    case MEMPROT_BACKING_PRIVATE:
        return close_private(overlay, first, count, prot);
    case MEMPROT_BACKING_SHARED:
        return lay_over(overlay, first, count, prot, MAP_SHARED, overlay->fd);
    case MEMPROT_BACKING_GUARD:
        return memprot_overlay_install_guard(overlay->start + first * size, count * size);
    }
    errno = EINVAL;
    return -1;
}

// May run in a signal handler.
int memprot_overlay_close(struct memprot_overlay *overlay, size_t first, size_t count) {
    int failed = 0;
    for (size_t page = first; page < first + count;) {
        size_t run = 0;
        while (page + run < first + count && (run == 0 || overlay->prot[page + run] == overlay->prot[page]) &&
               move_state(overlay, page + run, MEMPROT_PAGE_OPEN, MEMPROT_PAGE_BUSY))
            run++;
        if (run > 0) {
            int result = close_pages(overlay, page, run);
            set_state(overlay, page, run, result ? MEMPROT_PAGE_OPEN : MEMPROT_PAGE_REAL);
            failed |= result;
        }
        page += run ? run : 1;
    }
    return failed;
}

int memprot_overlay_protect(struct memprot_overlay *overlay, size_t first, size_t count, uint8_t prot) {
    size_t size = memprot_page_size(), owned = 0;
    while (owned < count) {
        if (move_state(overlay, first + owned, MEMPROT_PAGE_REAL, MEMPROT_PAGE_BUSY)) {
            owned++;
        } else if (atomic_load(&overlay->state[first + owned]) == MEMPROT_PAGE_BUSY) {
            sched_yield(); // in a handler's hands for a moment
        } else {
            set_state(overlay, first, owned, MEMPROT_PAGE_REAL);
            errno = EBUSY;
            return -1;
        }
    }
    int failed = memprot_mprotect(overlay->start + first * size, count * size, prot);
    if (!failed)
        memset(overlay->prot + first, prot, count);
    set_state(overlay, first, count, MEMPROT_PAGE_REAL);
    return failed;
}

void memprot_overlay_close_descriptor(void) {
    int fd = atomic_exchange(&own_memory, -1);
    if (fd >= 0)
        close(fd);
}
