#include "telling.h"

#include "fault.h"
#include "reporter.h"

#include <sched.h>
#include <stdatomic.h>

// Likenesses in the order in which they were told; behind the last nothing is distinguished any more.
enum { KINDS = 1024, CALLERS = 4 };
static struct kind {
    uint64_t likeness;
    atomic_uint count;
} kinds[KINDS];
static atomic_uint told;
static _Atomic uint64_t heard;

// One thread tells at a time; a fault of that thread itself is not told.
static atomic_int teller;

// FNV-1a. May run in a signal handler.
static uint64_t mix(uint64_t hash, uint64_t value) { return (hash ^ value) * 0x100000001b3; }

// What makes two faults alike: the code, and what it did. May run in a signal handler.
static uint64_t likeness_of(const struct memprot_record *record) {
    uint64_t hash =
        mix(0xcbf29ce484222325, (uint64_t)record->access << 8 | (uint64_t)record->signal << 1 | record->guard);
    hash = mix(hash, record->address < record->block.address);
    for (uint32_t i = 0; i < record->pcs && i < CALLERS; i++)
        hash = mix(hash, record->pc[i]);
    return hash;
}

// May run in a signal handler.
static struct kind *find(uint64_t likeness) {
    unsigned count = atomic_load(&told);
    for (unsigned i = 0; i < count; i++) {
        if (kinds[i].likeness == likeness)
            return &kinds[i];
    }
    return count < KINDS ? NULL : &kinds[KINDS - 1];
}

// May run in a signal handler.
static bool begin(int thread) {
    for (int nobody = 0; !atomic_compare_exchange_weak(&teller, &nobody, thread); nobody = 0) {
        if (nobody == thread)
            return false;
        sched_yield();
    }
    return true;
}

// May run in a signal handler.
void memprot_telling_hear(const struct memprot_record *record) {
    uint64_t likeness = likeness_of(record);
    atomic_fetch_add(&heard, 1);
    if (!begin(memprot_fault_thread()))
        return;
    struct kind *kind = find(likeness);
    if (!kind) {
        kind = &kinds[atomic_load(&told)];
        kind->likeness = likeness;
        atomic_fetch_add(&told, 1);
        (void)memprot_reporter_tell(record, NULL); // what cannot be told is counted all the same
    }
    atomic_fetch_add(&kind->count, 1);
    atomic_store(&teller, 0);
}

// May run in a signal handler.
uint64_t memprot_telling_heard(void) { return atomic_load(&heard); }

// May run in a signal handler.
uint32_t memprot_telling_told(void) { return atomic_load(&told); }

// May run in a signal handler.
void memprot_telling_put_counts(struct output *out) {
    unsigned count = memprot_telling_told();
    put_byte(out, '[');
    for (unsigned i = 0; i < count; i++)
        put_member(out, i ? "," : "", atomic_load(&kinds[i].count));
    put_byte(out, ']');
}

void memprot_telling_forget(void) {
    for (unsigned i = 0, count = memprot_telling_told(); i < count; i++)
        atomic_store(&kinds[i].count, 0);
    atomic_store(&told, 0);
    atomic_store(&heard, 0);
    atomic_store(&teller, 0);
}
