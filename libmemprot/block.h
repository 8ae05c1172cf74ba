// A piece of memory that somebody has handed out, and who did.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/// What an address belongs to.
struct memprot_block {
    uintptr_t address; // 0: nothing is known
    size_t size;
    struct memprot_origin allocated, freed;
    bool pooled; // it comes from a guard pool, and the rest is known
    bool is_freed;
    enum memprot_guard_owner owner;
};
