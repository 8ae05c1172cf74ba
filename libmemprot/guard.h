// Blocks of memory that end, or begin, at a guard: pools of slots that are laid out once and used again and
// again.
//
// A pool is a mapping of equal slots, each some data pages and then a guard; one more guard stands before the
// first. Nothing is mapped, protected or unmapped while blocks come and go, so a block costs little more than
// malloc. One mutex guards the pools; handlers read them without it: pools are never unmapped and slots never
// move.
#pragma once

#include "record.h"

enum memprot_side {
    MEMPROT_SIDE_RIGHT, // the block's last byte lies before a guard
    MEMPROT_SIDE_LEFT,  // the block's first byte lies behind a guard
    MEMPROT_SIDE_RANDOM,
    MEMPROT_SIDE_TURNS, // right and left by turns
};

/// Who hands blocks out; each is counted by itself.
enum memprot_guard_owner {
    MEMPROT_GUARD_NUMPY,
    MEMPROT_GUARD_RAW,    // Python's domain of raw memory
    MEMPROT_GUARD_MEM,    // Python's domain of memory
    MEMPROT_GUARD_OBJ,    // Python's domain of objects
    MEMPROT_GUARD_MALLOC, // the C library's malloc
    MEMPROT_GUARD_OWNERS,
};

/// The code that hands a block out, or takes it back. May be all zeros.
struct memprot_origin {
    uint32_t python; // its stack, as the binding numbers it; 0 unknown
    uint32_t native; // its stack, as the core numbers it; 0 unknown
    int thread;      // the kernel's number; 0 unknown
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
/// none.
void *memprot_guard_allocate(const struct memprot_guard_request *request);

/// The size of a live block, or 0 when @p block is none.
size_t memprot_guard_size(const void *block);

enum memprot_guard_freeing {
    MEMPROT_GUARD_FREED,
    MEMPROT_GUARD_FOREIGN, // not in any pool: somebody else's to free
    MEMPROT_GUARD_WILD,    // in a pool, but no live block's first byte
};

/// Takes a block back.
enum memprot_guard_freeing memprot_guard_free(void *block, enum memprot_guard_owner by,
                                              const struct memprot_origin *origin);

/// Pools begin and end at multiples of this.
#define MEMPROT_GUARD_UNIT ((uintptr_t)16 << 20)

/// The overlay of the pool that holds @p address, or NULL. May run in a signal handler.
struct memprot_overlay *memprot_guard_overlay_at(uintptr_t address);

/// The live block nearest to @p address, an address in a guard. May run in a signal handler.
/// @return false when neither neighbour is live.
bool memprot_guard_block_near(uintptr_t address, struct memprot_block *ret);

/// Freed blocks stay inaccessible as long as they have, with those freed later, no more than this many bytes.
void memprot_guard_set_quarantine(size_t limit);

/// Looks at the slack of all live blocks.
/// @return how many have any.
size_t memprot_guard_check(void);

/// Counts blocks that were not guarded: because others were the sample, or because they are from before.
void memprot_guard_count_sampled_out(enum memprot_guard_owner owner);
void memprot_guard_count_left_alone(enum memprot_guard_owner owner);

/// What the pools have done and what they cost.
struct memprot_guard_statistics {
    uint64_t blocks, bytes;             // given out since the start
    uint64_t freed_blocks, freed_bytes; // taken back
    uint64_t refused;                   // not guarded, for want of memory
    uint64_t overhead;                  // bytes that the pages in use hold beyond the blocks' own
    uint64_t peak_overhead;             // most of these at any time
    uint64_t quarantined;               // bytes of freed blocks that are inaccessible now
    uint64_t slack;                     // blocks beside which something was overwritten
    uint64_t sampled_out, left_alone;   // blocks
};
void memprot_guard_read_statistics(enum memprot_guard_owner of, struct memprot_guard_statistics *ret);

/// The same without waiting for a block that is being handed out or taken back, so that the numbers may be of
/// two moments. May run in a signal handler.
void memprot_guard_peek_statistics(enum memprot_guard_owner of, struct memprot_guard_statistics *ret);
