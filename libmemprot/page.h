// Sizes and rounding in pages.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// Both are set before any other code of the library runs.
extern size_t memprot_page_bytes;
extern unsigned memprot_page_shift;

/// The page size in bytes. May run in a signal handler.
static inline size_t memprot_page_size(void) { return memprot_page_bytes; }

/// How many pages @p length bytes need. May run in a signal handler.
static inline size_t memprot_page_count(size_t length) {
    return (length >> memprot_page_shift) + ((length & (memprot_page_bytes - 1)) != 0);
}

/// @p length rounded up to a multiple of the page size. May run in a signal handler.
static inline uintptr_t memprot_page_ceil(uintptr_t length) {
    return (length + memprot_page_bytes - 1) & ~(uintptr_t)(memprot_page_bytes - 1);
}

/// @p address rounded down to its page's start. May run in a signal handler.
static inline uintptr_t memprot_page_floor(uintptr_t address) { return address & ~(uintptr_t)(memprot_page_bytes - 1); }
