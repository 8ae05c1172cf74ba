// The pools themselves: where slots come from, and what becomes of their pages.
#pragma once

#include "guard.h"
#include "overlay.h"

#include <stdatomic.h>

enum memprot_slot_state {
    MEMPROT_SLOT_UNUSED,
    MEMPROT_SLOT_CLEAN, // free, and its pages read as zeros
    MEMPROT_SLOT_DIRTY, // free
    MEMPROT_SLOT_TAKEN, // in the hands of whoever allocates or frees it
    MEMPROT_SLOT_LIVE,
    MEMPROT_SLOT_LOOKED_AT, // live, and not to be freed for a moment
    MEMPROT_SLOT_QUARANTINED,
};

struct memprot_slot {
    uintptr_t block;
    size_t size;
    struct memprot_origin allocated, freed;
    struct memprot_slot *next; // free; or the one that was quarantined after it
    uint8_t owner;
    _Atomic uint8_t state;
};

struct memprot_pool {
    struct memprot_overlay overlay;
    uintptr_t slots_start;
    size_t data, stride; // bytes
    uint64_t reciprocal; // floor(2^64 / stride) + 1: slot number = high half of offset * reciprocal
    size_t capacity, carved;
    struct memprot_slot *free;
    struct memprot_pool *next; // with room, of the same shelf
    struct memprot_pool *older;
    size_t shelf;
    bool listed;
    struct memprot_slot slots[];
};

/// Blocks of so many pages, whose faults fall under one policy.
struct memprot_shelf {
    size_t number;
    size_t data; // bytes of a slot
};
struct memprot_shelf memprot_shelf_of(size_t pages, enum memprot_guard_owner owner);

/// What follows is called with this lock held, unless it says otherwise. It is never held where an epoch is entered. A
/// thread that forks holds it, and goes through.
void memprot_pool_lock(void);
void memprot_pool_unlock(void);

/// A slot for a block, TAKEN.
/// @param[out] clean whether its pages read as zeros.
/// @return NULL when there is none, and why.
struct memprot_slot *memprot_pool_take(const struct memprot_shelf *shelf, struct memprot_pool **pool, bool *clean,
                                       enum memprot_guard_refusal *why);

/// Gives back a slot that was TAKEN.
void memprot_pool_give(struct memprot_pool *pool, struct memprot_slot *slot, bool clean);

/// Whether free slots have as many resident pages as may be, so that further ones are to be given back.
bool memprot_pool_keeps_enough(const struct memprot_pool *pool);

// Without the lock:

/// The pool and the slot that hold an address; the guard behind a slot is the slot's. NULL for none, as the guard
/// before the first is. May run in a signal handler.
struct memprot_pool *memprot_pool_at(uintptr_t address);
struct memprot_slot *memprot_pool_slot_at(struct memprot_pool *pool, uintptr_t address);

/// The newest pool, from which `older` leads to all. May run in a signal handler.
struct memprot_pool *memprot_pool_newest(void);

/// Where the slot's data begins. May run in a signal handler.
static inline uintptr_t memprot_pool_data_of(const struct memprot_pool *pool, const struct memprot_slot *slot) {
    return pool->slots_start + (size_t)(slot - pool->slots) * pool->stride;
}

/// Gives the pages of a TAKEN slot back, which then read as zeros, where free slots keep enough.
/// @return whether it did.
bool memprot_pool_discard(const struct memprot_pool *pool, const struct memprot_slot *slot);

/// To be called once, before anything else here.
/// @param[in] most how many bytes of free slots may stay resident, at most.
void memprot_pool_prepare(size_t most);
