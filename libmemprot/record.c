#include "record.h"

#include "page.h"
#include "page_key.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

enum state { FREE, FILLING, READY, BUSY, CLAIMED };

enum { LAST_RESORT = MEMPROT_RECORDS / 4 };

// States and owners stand apart from the records, so that looking for one touches a few cache lines only.
static _Atomic uint8_t states[MEMPROT_RECORDS];
static _Atomic int owners[MEMPROT_RECORDS];
static struct memprot_record records[MEMPROT_RECORDS];
static atomic_int used; // one past the highest index ever taken
static atomic_int waiting;
static _Atomic uint64_t next_sequence = 1;

// May run in a signal handler.
static bool move_state(size_t index, uint8_t from, uint8_t to) {
    return atomic_compare_exchange_strong_explicit(&states[index], &from, to, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

// May run in a signal handler.
struct memprot_record *memprot_record_begin(bool last_resort) {
    int count = last_resort ? MEMPROT_RECORDS : MEMPROT_RECORDS - LAST_RESORT;
    for (int index = 0; index < count; index++) {
        if (!move_state((size_t)index, FREE, FILLING))
            continue;
        int high = atomic_load(&used);
        while (high <= index && !atomic_compare_exchange_weak(&used, &high, index + 1)) {
        }
        struct memprot_record *record = &records[index];
        record->sequence = atomic_fetch_add(&next_sequence, 1);
        record->pcs = 0;
        record->interpreted = false;
        record->text_length = 0;
        record->overlay = NULL;
        record->count = 0;
        record->folded = 0;
        record->holes = NULL;
        record->stack_overflow = false;
        record->depth = 0;
        record->block = (struct memprot_block){0};
        record->call = NULL;
        record->transferred = 0;
        atomic_store(&owners[index], MEMPROT_OWNER_ANYONE);
        return record;
    }
    return NULL;
}

// May run in a signal handler.
void memprot_record_publish(struct memprot_record *record) {
    atomic_fetch_add(&waiting, 1);
    atomic_store_explicit(&states[record - records], READY, memory_order_release);
}

// May run in a signal handler.
void memprot_record_route(struct memprot_record *record, int owner) { atomic_store(&owners[record - records], owner); }

// May run in a signal handler.
bool memprot_record_hold(struct memprot_record *record, uint64_t sequence) {
    if (!move_state((size_t)(record - records), READY, BUSY))
        return false;
    if (record->sequence == sequence)
        return true;
    memprot_record_unhold(record);
    return false;
}

// May run in a signal handler.
static bool is_similar(const struct memprot_record *record, int thread, const struct memprot_overlay *overlay) {
    return record->thread == thread && (!record->overlay || record->overlay == overlay);
}

// May run in a signal handler.
struct memprot_record *memprot_record_hold_similar(int thread, const struct memprot_overlay *overlay) {
    int high = atomic_load(&used);
    for (int index = 0; index < high; index++) {
        // Others' records are looked at only: were they held, their claimers would wait.
        if (!is_similar(&records[index], thread, overlay) || !move_state((size_t)index, READY, BUSY))
            continue;
        if (is_similar(&records[index], thread, overlay))
            return &records[index];
        memprot_record_unhold(&records[index]);
    }
    return NULL;
}

// May run in a signal handler.
void memprot_record_unhold(struct memprot_record *record) {
    atomic_store_explicit(&states[record - records], READY, memory_order_release);
}

static bool has_ended(int thread) { return syscall(SYS_tgkill, getpid(), thread, 0) < 0 && errno == ESRCH; }

static void close_pages(struct memprot_record *record) {
    // Pages that cannot be closed (no memory for another mapping) stay open: nobody is told of the next
    // access to them.
    if (record->overlay)
        (void)memprot_overlay_close(record->overlay, record->first, record->count);
    record->overlay = NULL;
    memprot_hole_close(record->holes);
    record->holes = NULL;
}

static struct memprot_record *claim(int owner, bool anyone, bool everybody) {
    if (atomic_load(&waiting) == 0)
        return NULL;
    for (;;) {
        int oldest = -1, high = atomic_load(&used);
        bool busy = false;
        for (int index = 0; index < high; index++) {
            uint8_t state = atomic_load_explicit(&states[index], memory_order_acquire);
            if (state != READY && state != BUSY)
                continue;
            int whose = atomic_load(&owners[index]);
            if (!everybody && whose != owner && !(anyone && (whose == MEMPROT_OWNER_ANYONE || has_ended(whose))))
                continue;
            if (state == BUSY)
                busy = true;
            else if (oldest < 0 || records[index].sequence < records[oldest].sequence)
                oldest = index;
        }
        if (oldest >= 0 && move_state((size_t)oldest, READY, CLAIMED)) {
            atomic_fetch_sub(&waiting, 1);
            close_pages(&records[oldest]);
            return &records[oldest];
        }
        if (oldest < 0 && !busy)
            return NULL;
        sched_yield();
    }
}

struct memprot_record *memprot_record_claim(int owner, bool anyone) {
    struct memprot_record *record = claim(owner, anyone, false);
    if (record) // its pages are closed; should others open them, this thread's accesses are none of theirs
        memprot_own_key_renounce();
    return record;
}

struct memprot_record *memprot_record_claim_any(void) { return claim(0, true, true); }

void memprot_record_free(struct memprot_record *record) {
    atomic_store_explicit(&states[record - records], FREE, memory_order_release);
}

// May run in a signal handler.
int memprot_record_waiting(void) { return atomic_load_explicit(&waiting, memory_order_relaxed); }

void memprot_record_close_pages(struct memprot_overlay *overlay, size_t first, size_t count) {
    int high = atomic_load(&used);
    uintptr_t start = overlay->start + first * memprot_page_size();
    memprot_hole_put_back(start, start + count * memprot_page_size());
    for (int index = 0; index < high; index++) {
        struct memprot_record *record = &records[index];
        uint8_t state;
        while ((state = atomic_load(&states[index])) != FREE && record->overlay == overlay &&
               record->first < first + count && first < record->first + record->count) {
            // Filling, busy and claimed records are in another thread's hands for a moment only.
            if (state == READY && memprot_record_hold(record, record->sequence)) {
                if (record->overlay == overlay)
                    close_pages(record);
                memprot_record_unhold(record);
                break;
            }
            sched_yield();
        }
    }
}

void memprot_record_after_fork(int parent_thread, int thread) {
    int high = atomic_load(&used), kept = 0;
    for (int index = 0; index < high; index++) {
        if (atomic_load(&states[index]) == FREE)
            continue;
        close_pages(&records[index]);
        if (atomic_load(&owners[index]) == parent_thread) {
            atomic_store(&owners[index], thread);
            atomic_store(&states[index], READY);
            kept++;
        } else {
            atomic_store(&states[index], FREE);
        }
    }
    atomic_store(&waiting, kept);
}
