#include "quarantine.h"

#include "slot_access.h"

static atomic_size_t limit;
// Under the lock of the pools.
static struct memprot_slot *oldest, *youngest;
static size_t kept;
static atomic_ullong kept_of[MEMPROT_GUARD_OWNERS];

// The oldest that is too many, TAKEN; NULL when there is none.
static struct memprot_slot *take_oldest(void) {
    memprot_pool_lock();
    struct memprot_slot *slot = kept > atomic_load_explicit(&limit, memory_order_relaxed) ? oldest : NULL;
    if (slot) {
        struct memprot_pool *pool = memprot_pool_at(slot->block);
        oldest = slot->next;
        if (!oldest)
            youngest = NULL;
        kept -= pool->data;
        atomic_fetch_sub_explicit(&kept_of[slot->owner], pool->data, memory_order_relaxed);
        atomic_store_explicit(&slot->state, MEMPROT_SLOT_TAKEN, memory_order_release);
    }
    memprot_pool_unlock();
    return slot;
}

static void give_back_what_is_too_many(void) {
    struct memprot_slot *slot;
    while ((slot = take_oldest()) != NULL) {
        struct memprot_pool *pool = memprot_pool_at(slot->block);
        if (memprot_pool_allow(pool, slot) < 0)
            continue; // it stays inaccessible, and is nobody's any more
        bool clean = memprot_pool_forbids_by_guard(pool) || memprot_pool_discard(pool, slot);
        memprot_pool_lock();
        memprot_pool_give(pool, slot, clean);
        memprot_pool_unlock();
    }
}

bool memprot_quarantine_put(struct memprot_pool *pool, struct memprot_slot *slot) {
    if (pool->data > atomic_load_explicit(&limit, memory_order_relaxed) || memprot_pool_forbid(pool, slot) < 0)
        return false;
    memprot_pool_lock();
    slot->next = NULL;
    if (youngest)
        youngest->next = slot;
    else
        oldest = slot;
    youngest = slot;
    kept += pool->data;
    atomic_fetch_add_explicit(&kept_of[slot->owner], pool->data, memory_order_relaxed);
    atomic_store_explicit(&slot->state, MEMPROT_SLOT_QUARANTINED, memory_order_release);
    memprot_pool_unlock();
    give_back_what_is_too_many();
    return true;
}

// May run in a signal handler.
uint64_t memprot_quarantine_bytes(enum memprot_guard_owner of) {
    return atomic_load_explicit(&kept_of[of], memory_order_relaxed);
}

void memprot_guard_set_quarantine(size_t bytes) {
    atomic_store_explicit(&limit, bytes, memory_order_relaxed);
    give_back_what_is_too_many();
}

size_t memprot_guard_quarantine(void) { return atomic_load_explicit(&limit, memory_order_relaxed); }
