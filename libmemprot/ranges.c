#include "ranges.h"

#include "epoch.h"

#include <errno.h>
#include <pthread.h>

// A row is published by storing its start last (release) and withdrawn by storing zero there. Handlers read
// without a lock; a withdrawn row is reused only after memprot_epoch_wait, so that no handler sees half of
// one and half of another.
struct row {
    _Atomic uintptr_t start;
    uintptr_t stop;
    _Atomic(struct memprot_overlay *) overlay; // looked at without the mutex by who looks for its own
};

enum { ROWS = 1 << 16 };

static struct row rows[ROWS];
static atomic_int used;
static int hint; // rows before it are taken
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;

// Inside an epoch, so that nobody forks while the mutex is held.
static int take_table(void) {
    int token = memprot_epoch_enter();
    pthread_mutex_lock(&writing);
    return token;
}

static void give_table(int token) {
    pthread_mutex_unlock(&writing);
    memprot_epoch_leave(token);
}

int memprot_ranges_add(uintptr_t start, uintptr_t stop, struct memprot_overlay *overlay) {
    int failed = -1, token = take_table();
    for (int i = hint; i < ROWS; i++) {
        // A withdrawn row keeps its overlay until no handler reads it any more.
        if (atomic_load(&rows[i].start) || rows[i].overlay)
            continue;
        rows[i].stop = stop;
        rows[i].overlay = overlay;
        atomic_store_explicit(&rows[i].start, start, memory_order_release);
        if (i >= atomic_load(&used))
            atomic_store(&used, i + 1);
        hint = i + 1;
        failed = 0;
        break;
    }
    give_table(token);
    if (failed)
        errno = ENOSPC;
    return failed;
}

void memprot_ranges_remove(struct memprot_overlay *overlay) {
    int high = atomic_load(&used);
    for (int i = 0; i < high; i++) {
        if (rows[i].overlay != overlay || !atomic_load(&rows[i].start))
            continue;
        atomic_store(&rows[i].start, 0);
        memprot_epoch_wait();
        int token = take_table();
        rows[i].overlay = NULL;
        if (i < hint)
            hint = i;
        give_table(token);
    }
}

// May run in a signal handler.
struct memprot_overlay *memprot_ranges_find(uintptr_t address) {
    int high = atomic_load(&used);
    for (int i = 0; i < high; i++) {
        uintptr_t start = atomic_load_explicit(&rows[i].start, memory_order_acquire);
        if (start && address >= start && address < rows[i].stop)
            return rows[i].overlay;
    }
    return NULL;
}

// May run in a signal handler.
struct memprot_overlay *memprot_ranges_next(uintptr_t address, uintptr_t *start, uintptr_t *stop) {
    struct memprot_overlay *found = NULL;
    int high = atomic_load(&used);
    for (int i = 0; i < high; i++) {
        uintptr_t from = atomic_load_explicit(&rows[i].start, memory_order_acquire), to = rows[i].stop;
        if (!from || to <= address || (found && from >= *start))
            continue;
        found = rows[i].overlay;
        *start = from;
        *stop = to;
    }
    return found;
}
