// Sizes and rounding in pages.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// The page size in bytes, asked of the kernel once. May run in a signal handler.
size_t memprot_page_size(void);

/// @p length rounded up to a multiple of the page size. May run in a signal handler.
static inline uintptr_t memprot_page_ceil(uintptr_t length) {
    size_t size = memprot_page_size();
    return (length + size - 1) & ~(uintptr_t)(size - 1);
}

/// @p address rounded down to its page's start. May run in a signal handler.
static inline uintptr_t memprot_page_floor(uintptr_t address) {
    return address & ~(uintptr_t)(memprot_page_size() - 1);
}
