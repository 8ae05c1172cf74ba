#include "guard_near.h"

#include "guard_pool.h"

// May run in a signal handler.
static bool is_live(uint8_t state) { return state == MEMPROT_SLOT_LIVE || state == MEMPROT_SLOT_LOOKED_AT; }

// A slot that is in somebody's hands now, or was never used, says nothing. May run in a signal handler.
static bool read_slot(struct memprot_slot *slot, struct memprot_block *ret) {
    uint8_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
    if (slot->block == 0 || state == MEMPROT_SLOT_UNUSED || state == MEMPROT_SLOT_TAKEN)
        return false;
    *ret = (struct memprot_block){
        .address = slot->block,
        .size = slot->size,
        .allocated = slot->allocated,
        .pooled = true,
        .is_freed = !is_live(state),
        .owner = (enum memprot_guard_owner)slot->owner,
    };
    if (ret->is_freed)
        ret->freed = slot->freed;
    return true;
}

// May run in a signal handler.
static bool is_nearer(uintptr_t address, const struct memprot_block *before, const struct memprot_block *after) {
    if (before->is_freed != after->is_freed)
        return after->is_freed;
    return address - (before->address + before->size) <= after->address - 1 - address;
}

// May run in a signal handler.
bool memprot_guard_block_near(uintptr_t address, struct memprot_block *ret) {
    struct memprot_pool *pool = memprot_pool_at(address);
    struct memprot_block before, after;
    if (!pool)
        return false;
    struct memprot_slot *slot = memprot_pool_slot_at(pool, address);
    bool has_before = slot && read_slot(slot, &before);
    if (has_before && address < memprot_pool_data_of(pool, slot) + pool->data) {
        *ret = before; // not in the guard: the block itself is what was touched
        return true;
    }
    struct memprot_slot *next = slot ? slot + 1 : &pool->slots[0];
    bool has_after = next < pool->slots + pool->capacity && read_slot(next, &after);
    if (has_before && has_after)
        has_before = is_nearer(address, &before, &after);
    if (has_before)
        *ret = before;
    else if (has_after)
        *ret = after;
    return has_before || has_after;
}
