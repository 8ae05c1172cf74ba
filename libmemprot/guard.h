// Blocks of memory that end, or begin, at a guard: pools of slots that are laid out once and used again and
// again.
//
// A pool is a mapping of equal slots, each some data pages and then a guard; one more guard stands before the
// first. Nothing is mapped, protected or unmapped while blocks come and go, so a block costs little more than
// malloc. One lock guards the pools; handlers read them without it: pools are never unmapped and slots never
// move. Nothing here calls malloc, which may be who asks.
#pragma once

#include "block.h"

#include <stdatomic.h>

enum memprot_side {
    MEMPROT_SIDE_RIGHT, // the block's last byte lies before a guard
    MEMPROT_SIDE_LEFT,  // the block's first byte lies behind a guard
    MEMPROT_SIDE_RANDOM,
    MEMPROT_SIDE_TURNS, // right and left by turns
};

struct memprot_guard_request {
    size_t size;  // bytes; 0 counts as 1
    size_t align; // the address is a multiple of it: a power of two up to the page size
    enum memprot_side side;
    enum memprot_guard_owner owner;
    bool zeroed;
    struct memprot_origin origin;
};

/// @return a block, or NULL when it cannot be guarded: no memory for another pool, or the pools have reached their
/// limit. On the right, up to align - 1 bytes lie between the block and its guard, and only an alignment of 1 leaves
/// none. Those, and on the left what the block's last page has left, are filled and looked at when it is freed.
void *memprot_guard_allocate(const struct memprot_guard_request *request);

/// The size of a live block, or 0 when @p block is none.
size_t memprot_guard_size(const void *block);

enum memprot_guard_freeing {
    MEMPROT_GUARD_FREED,
    MEMPROT_GUARD_FOREIGN, // not in any pool: somebody else's to free
    MEMPROT_GUARD_WILD,    // in a pool, but no live block's first byte: it was told, and nothing was done
    MEMPROT_GUARD_LIVE,    // a block that may be used
};

/// Takes a block back. What is wrong with it is told as a fault without a signal: freed already, no block at all, or
/// something written beside it.
enum memprot_guard_freeing memprot_guard_free(void *block, enum memprot_guard_owner by,
                                              const struct memprot_origin *origin);

/// Looks up a block that is to be resized; one that is none is told like one that is freed.
/// @param[out] size of the block, where it is live.
enum memprot_guard_freeing memprot_guard_resize(void *block, enum memprot_guard_owner by,
                                                const struct memprot_origin *origin, size_t *size);

/// Pools begin and end at multiples of this.
#define MEMPROT_GUARD_UNIT ((uintptr_t)16 << 20)

/// All pools lie between these, and other memory may as well.
extern _Atomic uintptr_t memprot_guard_start, memprot_guard_stop;

/// Whether an address might be in a pool, by the shortest way there is. May run in a signal handler.
static inline bool memprot_guard_may_hold(uintptr_t address) {
    return address >= atomic_load_explicit(&memprot_guard_start, memory_order_relaxed) &&
           address < atomic_load_explicit(&memprot_guard_stop, memory_order_relaxed);
}

/// The overlay of the pool that holds @p address, or NULL. May run in a signal handler.
struct memprot_overlay *memprot_guard_overlay_at(uintptr_t address);

/// Freed blocks stay inaccessible as long as they have, with those freed later, no more than this many bytes, counted
/// in whole pages; 0 keeps none.
void memprot_guard_set_quarantine(size_t limit);
size_t memprot_guard_quarantine(void);

/// Looks at the slack of all live blocks, and tells what was overwritten.
/// @return how many have any.
size_t memprot_guard_check(void);

/// Counts blocks that were not guarded: because others were the sample, or because they are from before.
void memprot_guard_count_sampled_out(enum memprot_guard_owner owner);
void memprot_guard_count_left_alone(enum memprot_guard_owner owner);

/// Why a block was not guarded.
enum memprot_guard_refusal {
    MEMPROT_GUARD_NOT_REFUSED,
    MEMPROT_GUARD_OVERHEAD,      // the pages of guarded blocks hold as much beyond them as they may
    MEMPROT_GUARD_ADDRESS_SPACE, // RLIMIT_AS leaves no room for another pool
    MEMPROT_GUARD_DATA_LIMIT,    // nor RLIMIT_DATA
    MEMPROT_GUARD_LOCKED,        // memory is locked as it is mapped, and locked pages take no guards
    MEMPROT_GUARD_NO_MEMORY,     // the kernel gives no more mappings, or no more memory
};

/// What the pools have done and what they cost.
struct memprot_guard_statistics {
    uint64_t blocks, bytes;             // given out since the start
    uint64_t freed_blocks, freed_bytes; // taken back
    uint64_t refused;                   // not guarded, for want of memory
    enum memprot_guard_refusal refusal; // why, the last time
    uint64_t overhead;                  // bytes that the pages in use hold beyond the blocks' own
    uint64_t peak_overhead;             // most of these at any time
    uint64_t quarantined;               // bytes of freed blocks that are inaccessible now
    uint64_t slack;                     // blocks beside which something was overwritten
    uint64_t sampled_out, left_alone;   // blocks
};

/// What of it is told, each with its name.
struct memprot_guard_count {
    const char *name;
    uint64_t value;
};
enum { MEMPROT_GUARD_COUNTS = 10 };
/// May run in a signal handler.
void memprot_guard_counts(const struct memprot_guard_statistics *of, struct memprot_guard_count *ret);

void memprot_guard_read_statistics(enum memprot_guard_owner of, struct memprot_guard_statistics *ret);

/// The same without waiting for a block that is being handed out or taken back, so that the numbers may be of
/// two moments. May run in a signal handler.
void memprot_guard_peek_statistics(enum memprot_guard_owner of, struct memprot_guard_statistics *ret);

/// Before anybody else watches for forks whose handlers wait for threads that may allocate. Repeated calls do nothing.
void memprot_guard_prepare(void);
