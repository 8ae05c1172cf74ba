// Whoever would have served the program without us: the next library that offers malloc, mostly the C library.
#pragma once

#include <stddef.h>

struct memprot_next {
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t count, size_t size);
    void *(*realloc)(void *block, size_t size);
    void *(*memalign)(size_t align, size_t size);
    void *(*aligned_alloc)(size_t align, size_t size);
    int (*posix_memalign)(void **ret, size_t align, size_t size);
    void *(*valloc)(size_t size);
    void *(*pvalloc)(size_t size);
    void (*free)(void *block);
    size_t (*malloc_usable_size)(void *block);
};

/// Looked up at the first call of any, however early that is.
extern struct memprot_next memprot_next;
