#include "guard_pool.h"

#include "epoch.h"
#include "fault.h"
#include "finding.h"
#include "memory_limit.h"
#include "native_stacks.h"
#include "page.h"
#include "quarantine.h"
#include "sampling.h"
#include "slack.h"
#include "slot_access.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

// Zeroing a freed block of at least this size by giving its pages back is cheaper than by memset.
static const size_t discard_threshold = (size_t)512 << 10;

static pthread_once_t prepared = PTHREAD_ONCE_INIT;
static atomic_bool is_prepared;
// Under the lock of the pools.
static size_t overhead, overhead_limit, largest;
static struct memprot_guard_statistics statistics[MEMPROT_GUARD_OWNERS];
static atomic_ullong sampled_out[MEMPROT_GUARD_OWNERS], left_alone[MEMPROT_GUARD_OWNERS], slack[MEMPROT_GUARD_OWNERS];

static void prepare(void) {
    // An eighth of what there is: a program that lives on millions of small arrays must not run out of memory
    // through us.
    uint64_t eighth = memprot_memory_limit() / 8;
    overhead_limit = eighth;
    // What is more than the machine has the program's own allocator is to refuse: pools do not reserve their memory.
    largest = memprot_machine_memory();
    memprot_pool_prepare(eighth);
    atomic_store_explicit(&is_prepared, true, memory_order_release);
}

void memprot_guard_prepare(void) {
    if (!atomic_load_explicit(&is_prepared, memory_order_acquire))
        pthread_once(&prepared, prepare);
}

// Called with the lock held.
static enum memprot_side side_of(enum memprot_side asked) {
    static unsigned turn;
    if (asked == MEMPROT_SIDE_TURNS)
        return turn++ % 2 ? MEMPROT_SIDE_LEFT : MEMPROT_SIDE_RIGHT;
    if (asked == MEMPROT_SIDE_RANDOM)
        return memprot_sample_number() % 2 ? MEMPROT_SIDE_LEFT : MEMPROT_SIDE_RIGHT;
    return asked;
}

// Called with the lock held.
static void *refuse(struct memprot_guard_statistics *counts, enum memprot_guard_refusal why) {
    counts->refused++;
    counts->refusal = why;
    memprot_pool_unlock();
    return NULL;
}

void *memprot_guard_allocate(const struct memprot_guard_request *request) {
    memprot_guard_prepare();
    size_t size = request->size ? request->size : 1, pages = memprot_page_count(size);
    size_t waste = (pages << memprot_page_shift) - size;
    struct memprot_guard_statistics *counts = &statistics[request->owner];
    enum memprot_guard_refusal why;
    struct memprot_pool *pool;
    bool clean;
    memprot_pool_lock();
    if (size > largest)
        return refuse(counts, MEMPROT_GUARD_NO_MEMORY);
    if (overhead + waste > overhead_limit)
        return refuse(counts, MEMPROT_GUARD_OVERHEAD);
    struct memprot_shelf shelf = memprot_shelf_of(pages, request->owner);
    struct memprot_slot *slot = memprot_pool_take(&shelf, &pool, &clean, &why);
    if (!slot)
        return refuse(counts, why);
    enum memprot_side side = side_of(request->side);
    overhead += waste;
    counts->blocks++;
    counts->bytes += size;
    counts->overhead += waste;
    if (counts->overhead > counts->peak_overhead)
        counts->peak_overhead = counts->overhead;
    memprot_pool_unlock();
    uintptr_t start = memprot_pool_data_of(pool, slot), stop = start + pool->data;
    uintptr_t block = side == MEMPROT_SIDE_RIGHT ? (stop - size) & ~(uintptr_t)(request->align - 1) : start;
    slot->block = block;
    slot->size = size;
    slot->allocated = request->origin;
    slot->owner = (uint8_t)request->owner;
    if (request->zeroed && !clean &&
        (size < discard_threshold || madvise((void *)start, pool->data, MADV_DONTNEED) < 0))
        memset((void *)block, 0, size);
    memprot_slack_fill(block + size);
    atomic_store_explicit(&slot->state, MEMPROT_SLOT_LIVE, memory_order_release);
    return (void *)block;
}

static struct memprot_slot *slot_of(struct memprot_pool *pool, uintptr_t block) {
    struct memprot_slot *slot = memprot_pool_slot_at(pool, block);
    return slot && slot->block == block ? slot : NULL;
}

static bool is_live(struct memprot_slot *slot) {
    uint8_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
    return state == MEMPROT_SLOT_LIVE || state == MEMPROT_SLOT_LOOKED_AT;
}

size_t memprot_guard_size(const void *block) {
    struct memprot_pool *pool = memprot_pool_at((uintptr_t)block);
    struct memprot_slot *slot = pool ? slot_of(pool, (uintptr_t)block) : NULL;
    return slot && is_live(slot) ? slot->size : 0;
}

// Takes a live slot from everybody else; false when it is not live.
static bool seize(struct memprot_slot *slot, enum memprot_slot_state as) {
    for (;;) {
        memprot_pool_lock();
        uint8_t state = atomic_load_explicit(&slot->state, memory_order_relaxed);
        if (state == MEMPROT_SLOT_LIVE)
            atomic_store_explicit(&slot->state, (uint8_t)as, memory_order_release);
        memprot_pool_unlock();
        if (state != MEMPROT_SLOT_LOOKED_AT)
            return state == MEMPROT_SLOT_LIVE;
        sched_yield();
    }
}

// Who called the allocator, where that is known, and not the allocator itself.
static uintptr_t caller_of(const struct memprot_origin *origin, const void *otherwise) {
    uintptr_t caller;
    return origin && memprot_native_stack_read(origin->native, &caller, 1) == 1 ? caller : (uintptr_t)otherwise;
}

static struct memprot_block describe(const struct memprot_slot *slot) {
    return (struct memprot_block){.address = slot->block,
                                  .size = slot->size,
                                  .allocated = slot->allocated,
                                  .pooled = true,
                                  .owner = (enum memprot_guard_owner)slot->owner};
}

// The address is freed, or resized, and is no live block's first byte.
static enum memprot_guard_freeing tell_wild(struct memprot_pool *pool, uintptr_t address, uintptr_t caller) {
    struct memprot_slot *slot = memprot_pool_slot_at(pool, address);
    struct memprot_discovery found = {
        .what = MEMPROT_FOUND_WILD_FREE, .address = address, .caller = caller, .overlay = &pool->overlay};
    if (slot && slot->block != 0 && address < memprot_pool_data_of(pool, slot) + pool->data) {
        found.block = describe(slot);
        found.block.is_freed = !is_live(slot);
        found.block.freed = found.block.is_freed ? slot->freed : (struct memprot_origin){.python = 0};
        if (found.block.is_freed && address == slot->block)
            found.what = MEMPROT_FOUND_DOUBLE_FREE;
    }
    memprot_finding_tell(&found);
    return MEMPROT_GUARD_WILD;
}

static void look_at_slack(struct memprot_pool *pool, const struct memprot_slot *slot, bool wary,
                          const struct memprot_origin *origin, const void *above) {
    struct memprot_overwritten overwritten;
    memprot_slack_look(slot->block + slot->size, wary, &overwritten);
    if (overwritten.size == 0)
        return;
    atomic_fetch_add_explicit(&slack[slot->owner], 1, memory_order_relaxed);
    memprot_finding_tell(&(struct memprot_discovery){.what = MEMPROT_FOUND_SLACK,
                                                     .address = overwritten.address,
                                                     .size = overwritten.size,
                                                     .bytes = overwritten.bytes,
                                                     .caller = caller_of(origin, above),
                                                     .overlay = &pool->overlay,
                                                     .block = describe(slot)});
    if (wary)
        memprot_slack_mend(&overwritten); // it is told once
}

// Called with the lock held.
static void count_freed(const struct memprot_slot *slot) {
    struct memprot_guard_statistics *counts = &statistics[slot->owner];
    size_t waste = memprot_page_ceil(slot->size) - slot->size;
    overhead -= waste;
    counts->overhead -= waste;
    counts->freed_blocks++;
    counts->freed_bytes += slot->size;
}

// There is nothing to look at, and its pages may stay as they are: what most blocks come to, in one go.
static bool free_plainly(struct memprot_pool *pool, struct memprot_slot *slot) {
    uintptr_t stop = slot->block + slot->size;
    if (memprot_slack_end(stop) > stop || memprot_record_waiting() > 0 || memprot_guard_quarantine() > 0)
        return false;
    memprot_pool_lock();
    bool plain = atomic_load_explicit(&slot->state, memory_order_relaxed) == MEMPROT_SLOT_LIVE &&
                 !memprot_pool_keeps_enough(pool);
    if (plain) {
        count_freed(slot);
        memprot_pool_give(pool, slot, false);
    }
    memprot_pool_unlock();
    return plain;
}

enum memprot_guard_freeing memprot_guard_free(void *block, enum memprot_guard_owner by,
                                              const struct memprot_origin *origin) {
    (void)by; // blocks go back to whoever handed them out
    struct memprot_pool *pool = memprot_pool_at((uintptr_t)block);
    if (!pool)
        return MEMPROT_GUARD_FOREIGN;
    const void *above = __builtin_return_address(0);
    struct memprot_slot *slot = slot_of(pool, (uintptr_t)block);
    if (!slot)
        return tell_wild(pool, (uintptr_t)block, caller_of(origin, above));
    struct memprot_origin freed = origin ? *origin : (struct memprot_origin){.python = 0};
    freed.thread = memprot_fault_thread();
    // Of a block that is freed already this is not to be forgotten.
    if (is_live(slot))
        slot->freed = freed;
    if (free_plainly(pool, slot))
        return MEMPROT_GUARD_FREED;
    if (!seize(slot, MEMPROT_SLOT_TAKEN))
        return tell_wild(pool, (uintptr_t)block, caller_of(origin, above));
    look_at_slack(pool, slot, false, origin, above);
    if (memprot_record_waiting() > 0)
        memprot_pool_close_around(pool, slot);
    memprot_pool_lock();
    count_freed(slot);
    memprot_pool_unlock();
    if (memprot_guard_quarantine() > 0 && memprot_quarantine_put(pool, slot))
        return MEMPROT_GUARD_FREED;
    bool clean = memprot_pool_discard(pool, slot);
    memprot_pool_lock();
    memprot_pool_give(pool, slot, clean);
    memprot_pool_unlock();
    return MEMPROT_GUARD_FREED;
}

enum memprot_guard_freeing memprot_guard_resize(void *block, enum memprot_guard_owner by,
                                                const struct memprot_origin *origin, size_t *size) {
    (void)by;
    struct memprot_pool *pool = memprot_pool_at((uintptr_t)block);
    if (!pool)
        return MEMPROT_GUARD_FOREIGN;
    struct memprot_slot *slot = slot_of(pool, (uintptr_t)block);
    if (!slot || !is_live(slot))
        return tell_wild(pool, (uintptr_t)block, caller_of(origin, __builtin_return_address(0)));
    *size = slot->size;
    return MEMPROT_GUARD_LIVE;
}

// Inside an epoch, because nobody could free in a forked child what another thread was looking at.
static bool check_slot(struct memprot_pool *pool, struct memprot_slot *slot, const void *above) {
    if (!is_live(slot))
        return false;
    int token = memprot_epoch_enter();
    bool live = seize(slot, MEMPROT_SLOT_LOOKED_AT);
    uintptr_t stop = live ? slot->block + slot->size : 0;
    if (live) {
        look_at_slack(pool, slot, true, NULL, above);
        atomic_store_explicit(&slot->state, MEMPROT_SLOT_LIVE, memory_order_release);
    }
    memprot_epoch_leave(token);
    return memprot_slack_end(stop) > stop;
}

size_t memprot_guard_check(void) {
    size_t looked_at = 0;
    const void *above = __builtin_return_address(0);
    for (struct memprot_pool *pool = memprot_pool_newest(); pool; pool = pool->older) {
        for (size_t i = 0; i < pool->capacity; i++)
            looked_at += check_slot(pool, &pool->slots[i], above);
    }
    return looked_at;
}

void memprot_guard_count_sampled_out(enum memprot_guard_owner owner) {
    atomic_fetch_add_explicit(&sampled_out[owner], 1, memory_order_relaxed);
}

void memprot_guard_count_left_alone(enum memprot_guard_owner owner) {
    atomic_fetch_add_explicit(&left_alone[owner], 1, memory_order_relaxed);
}

void memprot_guard_read_statistics(enum memprot_guard_owner of, struct memprot_guard_statistics *ret) {
    memprot_pool_lock();
    memprot_guard_peek_statistics(of, ret);
    memprot_pool_unlock();
}

// May run in a signal handler.
void memprot_guard_peek_statistics(enum memprot_guard_owner of, struct memprot_guard_statistics *ret) {
    *ret = statistics[of];
    ret->quarantined = memprot_quarantine_bytes(of);
    ret->slack = atomic_load_explicit(&slack[of], memory_order_relaxed);
    ret->sampled_out = atomic_load_explicit(&sampled_out[of], memory_order_relaxed);
    ret->left_alone = atomic_load_explicit(&left_alone[of], memory_order_relaxed);
}

// May run in a signal handler.
void memprot_guard_counts(const struct memprot_guard_statistics *of, struct memprot_guard_count *ret) {
    const struct memprot_guard_count counts[MEMPROT_GUARD_COUNTS] = {
        {"blocks", of->blocks},
        {"bytes", of->bytes},
        {"live_blocks", of->blocks - of->freed_blocks},
        {"live_bytes", of->bytes - of->freed_bytes},
        {"unguarded", of->refused},
        {"left_alone", of->left_alone},
        {"sampled_out", of->sampled_out},
        {"overhead", of->peak_overhead},
        {"quarantined", of->quarantined},
        {"slack", of->slack},
    };
    memcpy(ret, counts, sizeof counts);
}

// May run in a signal handler.
struct memprot_overlay *memprot_guard_overlay_at(uintptr_t address) {
    struct memprot_pool *pool = memprot_pool_at(address);
    return pool ? &pool->overlay : NULL;
}
