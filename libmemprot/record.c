#include "record.h"

#include "epoch.h"
#include "overlay_close.h"
#include "page.h"
#include "page_key.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum state { FREE, FILLING, READY, BUSY, CLAIMED };

enum { LAST_RESORT = MEMPROT_RECORDS / 4 };

// States and owners stand apart from the records, so that looking for one touches a few cache lines only. Above its
// state a record has the number of its use, which is another one whenever its owner is: who has looked at a record
// takes that one, or none.
static const uint32_t STATE = 0xff, USE = 0x100;
static _Atomic uint32_t states[MEMPROT_RECORDS];
static _Atomic int owners[MEMPROT_RECORDS];
static struct memprot_record records[MEMPROT_RECORDS];
static atomic_int used; // one past the highest index ever taken
static atomic_int waiting;
static _Atomic uint64_t next_sequence = 1;
static _Atomic uint64_t recorded; // a statistic: nothing is ordered by it

// May run in a signal handler.
static uint32_t state_of(size_t index) { return atomic_load(&states[index]) & STATE; }

// May run in a signal handler.
static bool take(size_t index, uint32_t seen, uint32_t to) {
    return atomic_compare_exchange_strong_explicit(&states[index], &seen, (seen & ~STATE) | to, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

// By whoever has the record alone. May run in a signal handler.
static void set_state(size_t index, uint32_t to) {
    uint32_t seen = atomic_load_explicit(&states[index], memory_order_relaxed);
    atomic_store_explicit(&states[index], (seen & ~STATE) | to, memory_order_release);
}

// May run in a signal handler.
struct memprot_record *memprot_record_begin(bool last_resort) {
    int count = last_resort ? MEMPROT_RECORDS : MEMPROT_RECORDS - LAST_RESORT;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (int index = 0; index < count; index++) {
        uint32_t seen = atomic_load_explicit(&states[index], memory_order_relaxed);
        if ((seen & STATE) != FREE || !take((size_t)index, seen, FILLING))
            continue;
        atomic_fetch_add_explicit(&states[index], USE, memory_order_relaxed);
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
        record->faults = 0;
        record->holes = NULL;
        record->stack_overflow = false;
        record->depth = 0;
        record->finding = MEMPROT_FOUND_NOTHING;
        record->block = (struct memprot_block){0};
        record->call = NULL;
        record->transferred = 0;
        record->ruling = (struct memprot_ruling){.policy = MEMPROT_POLICY_DIE};
        record->time = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
        record->suppression = NULL;
        record->prot = -1;
        record->instruction_size = 0;
        record->value_size = 0;
        atomic_store(&owners[index], MEMPROT_OWNER_ANYONE);
        return record;
    }
    return NULL;
}

// May run in a signal handler.
void memprot_record_publish(struct memprot_record *record) {
    atomic_fetch_add(&waiting, 1);
    set_state((size_t)(record - records), READY);
}

// May run in a signal handler.
void memprot_record_route(struct memprot_record *record, int owner) { atomic_store(&owners[record - records], owner); }

// May run in a signal handler.
bool memprot_record_hold(struct memprot_record *record, uint64_t sequence) {
    size_t index = (size_t)(record - records);
    uint32_t seen = atomic_load_explicit(&states[index], memory_order_acquire);
    return (seen & STATE) == READY && record->sequence == sequence && take(index, seen, BUSY);
}

// May run in a signal handler.
static bool is_similar(const struct memprot_record *record, int thread, const struct memprot_overlay *overlay,
                       const struct memprot_ruling *ruling) {
    return record->thread == thread && (!record->overlay || record->overlay == overlay) &&
           memprot_record_is_of(record, ruling);
}

// May run in a signal handler.
struct memprot_record *memprot_record_hold_similar(int thread, const struct memprot_overlay *overlay,
                                                   const struct memprot_ruling *ruling) {
    int high = atomic_load(&used);
    for (int index = 0; index < high; index++) {
        uint32_t seen = atomic_load_explicit(&states[index], memory_order_acquire);
        // Others' records are looked at only: were they held, their bursts would end and their claimers wait.
        if ((seen & STATE) == READY && is_similar(&records[index], thread, overlay, ruling) &&
            take((size_t)index, seen, BUSY))
            return &records[index];
    }
    return NULL;
}

// May run in a signal handler.
void memprot_record_unhold(struct memprot_record *record) { set_state((size_t)(record - records), READY); }

static bool has_ended(int thread) { return syscall(SYS_tgkill, getpid(), thread, 0) < 0 && errno == ESRCH; }

static void close_holes(struct memprot_record *record) {
    memprot_hole_close(record->holes);
    record->holes = NULL;
}

static void close_pages(struct memprot_record *record) {
    // Pages that cannot be closed (no memory for another mapping) stay open: nobody is told of the next
    // access to them.
    if (record->overlay)
        (void)memprot_overlay_close(record->overlay, record->first, record->count);
    record->overlay = NULL;
    close_holes(record);
}

bool memprot_record_is_orphaned(int owner) {
    if (owner == MEMPROT_OWNER_LISTENERS || owner == MEMPROT_OWNER_DECIDER || owner == MEMPROT_OWNER_ANYONE)
        return false;
    return owner > 0 ? has_ended(owner) : !memprot_scope_may_claim(memprot_scope_of(-owner));
}

// Others may close its pages as long as it is not decided what is to become of them: whoever decides may be at work
// with the memory. A burst ends here.
static void await_decision(size_t index) {
    records[index].sequence = atomic_fetch_add(&next_sequence, 1);
    atomic_fetch_add_explicit(&states[index], USE, memory_order_relaxed);
    atomic_store(&owners[index], MEMPROT_OWNER_DECIDER);
    memprot_record_unhold(&records[index]);
}

// The oldest that is wanted, now the caller's; NULL when there is none.
static struct memprot_record *take_oldest(memprot_wanted *wanted, const void *closure) {
    for (;;) {
        int oldest = -1, high = atomic_load(&used);
        uint32_t seen_oldest = 0;
        bool busy = false;
        for (int index = 0; index < high; index++) {
            uint32_t seen = atomic_load_explicit(&states[index], memory_order_acquire);
            uint32_t state = seen & STATE;
            if ((state != READY && state != BUSY) || !wanted(&records[index], atomic_load(&owners[index]), closure))
                continue;
            if (state == BUSY) {
                busy = true;
            } else if (oldest < 0 || records[index].sequence < records[oldest].sequence) {
                oldest = index;
                seen_oldest = seen;
            }
        }
        if (oldest < 0 && !busy)
            return NULL;
        if (oldest >= 0 && take((size_t)oldest, seen_oldest, CLAIMED))
            return &records[oldest];
        sched_yield();
    }
}

int memprot_record_decide(struct memprot_record *record, uint64_t sequence, bool keep) {
    size_t index = (size_t)(record - records);
    uint32_t seen;
    do {
        seen = atomic_load_explicit(&states[index], memory_order_acquire);
        if ((seen & STATE) == FREE || record->sequence != sequence)
            return 1;
    } while (((seen & STATE) != READY || !take(index, seen, CLAIMED)) && sched_yield() == 0);
    int token = memprot_epoch_enter();
    int failed = keep && record->overlay ? memprot_overlay_keep(record->overlay, record->first, record->count) : 0;
    int error = errno;
    close_pages(record);
    memprot_epoch_leave(token);
    memprot_own_key_renounce();
    errno = error;
    return failed;
}

struct memprot_record *memprot_record_claim(memprot_wanted *wanted, const void *closure) {
    if (atomic_load(&waiting) == 0)
        return NULL;
    int token = memprot_epoch_enter(); // nobody forks between the claim and the end of closing
    struct memprot_record *record = take_oldest(wanted, closure);
    if (record) {
        atomic_fetch_sub(&waiting, 1);
        close_holes(record); // what was written to zeros nobody can keep
        if (record->ruling.policy == MEMPROT_POLICY_ASK)
            await_decision((size_t)(record - records));
        else
            close_pages(record);
    }
    memprot_epoch_leave(token);
    if (record && record->ruling.policy != MEMPROT_POLICY_ASK)
        memprot_own_key_renounce(); // should others open its pages, this thread's accesses are none of theirs
    return record;
}

// May run in a signal handler.
void memprot_record_free(struct memprot_record *record) { set_state((size_t)(record - records), FREE); }

// May run in a signal handler.
int memprot_record_waiting(void) { return atomic_load_explicit(&waiting, memory_order_relaxed); }

bool memprot_record_is_waiting(memprot_wanted *wanted, const void *closure) {
    int high = atomic_load(&waiting) > 0 ? atomic_load(&used) : 0;
    for (int index = 0; index < high; index++) {
        uint32_t state = state_of((size_t)index);
        if ((state == READY || state == BUSY) && wanted(&records[index], atomic_load(&owners[index]), closure))
            return true;
    }
    return false;
}

void memprot_record_settle(int thread) {
    int high = atomic_load(&waiting) > 0 ? atomic_load(&used) : 0;
    int token = memprot_epoch_enter();
    for (int index = 0; index < high; index++) {
        struct memprot_record *record = &records[index];
        uint32_t seen = atomic_load_explicit(&states[index], memory_order_acquire);
        if ((seen & STATE) == READY && record->thread == thread && record->ruling.policy != MEMPROT_POLICY_ASK &&
            take((size_t)index, seen, BUSY)) {
            close_pages(record);
            memprot_record_unhold(record);
        }
    }
    memprot_epoch_leave(token);
}

// May run in a signal handler.
uint64_t memprot_record_faults(void) { return atomic_load_explicit(&recorded, memory_order_relaxed); }

// May run in a signal handler.
void memprot_record_count(struct memprot_record *record) {
    record->faults++;
    atomic_fetch_add_explicit(&recorded, 1, memory_order_relaxed);
}

void memprot_record_close_pages(struct memprot_overlay *overlay, size_t first, size_t count) {
    int high = atomic_load(&used), token = memprot_epoch_enter();
    uintptr_t start = overlay->start + first * memprot_page_size();
    memprot_hole_put_back(start, start + count * memprot_page_size());
    for (int index = 0; index < high; index++) {
        struct memprot_record *record = &records[index];
        uint32_t seen;
        while (((seen = atomic_load_explicit(&states[index], memory_order_acquire)) & STATE) != FREE &&
               record->overlay == overlay && record->first < first + count && first < record->first + record->count) {
            // Filling, busy and claimed records are in another thread's hands for a moment only.
            if ((seen & STATE) == READY && take((size_t)index, seen, BUSY)) {
                close_pages(record);
                memprot_record_unhold(record);
                break;
            }
            sched_yield();
        }
    }
    memprot_epoch_leave(token);
}

void memprot_record_after_fork(int parent_thread, int thread) {
    int high = atomic_load(&used), kept = 0;
    for (int index = 0; index < high; index++) {
        if (state_of((size_t)index) == FREE)
            continue;
        close_pages(&records[index]);
        int owner = atomic_load(&owners[index]);
        bool is_scopes = owner < 0 && owner > MEMPROT_OWNER_DECIDER && !memprot_record_is_orphaned(owner);
        if (is_scopes || owner == parent_thread ||
            (owner == MEMPROT_OWNER_LISTENERS && records[index].thread == parent_thread)) {
            if (owner == parent_thread)
                atomic_store(&owners[index], thread);
            set_state((size_t)index, READY);
            kept++;
        } else {
            set_state((size_t)index, FREE);
        }
    }
    atomic_store(&waiting, kept);
}
