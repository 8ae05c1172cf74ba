#include "next.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// ---- blocks for whoever asks while the next allocator is being looked up: the dynamic linker

enum { EARLY_BYTES = 1 << 16, EARLY_ALIGN = 16 };

static _Alignas(64) unsigned char early[EARLY_BYTES];
static size_t early_used;

static bool is_early(const void *block) {
    return (uintptr_t)block >= (uintptr_t)early && (uintptr_t)block < (uintptr_t)early + EARLY_BYTES;
}

// Each block's size stands in front of it; nothing is ever handed out twice, so that all of it is zeros.
static void *early_allocate(size_t align, size_t size) {
    if (align < EARLY_ALIGN)
        align = EARLY_ALIGN;
    size_t at = ((early_used + EARLY_ALIGN + align - 1) / align) * align;
    if (align > EARLY_BYTES || size > EARLY_BYTES || at + size > EARLY_BYTES) {
        errno = ENOMEM;
        return NULL;
    }
    early_used = at + size;
    memcpy(early + at - sizeof size, &size, sizeof size);
    return early + at;
}

static size_t early_size(const void *block) {
    size_t size;
    memcpy(&size, (const unsigned char *)block - sizeof size, sizeof size);
    return size;
}

// ---- the look-up

static struct memprot_next found;
static bool looking, complete;

static void look_up(void) {
    if (looking || complete)
        return;
    looking = true;
    struct {
        void *function;
        const char *name;
    } const rows[] = {
        {&found.malloc, "malloc"},
        {&found.calloc, "calloc"},
        {&found.realloc, "realloc"},
        {&found.memalign, "memalign"},
        {&found.aligned_alloc, "aligned_alloc"},
        {&found.posix_memalign, "posix_memalign"},
        {&found.valloc, "valloc"},
        {&found.pvalloc, "pvalloc"},
        {&found.free, "free"},
        {&found.malloc_usable_size, "malloc_usable_size"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        void *function = dlsym(RTLD_NEXT, rows[i].name);
        if (!function)
            abort(); // a process without malloc does not come so far
        memcpy(rows[i].function, &function, sizeof function);
    }
    complete = true;
    looking = false;
}

// ---- what is called until then, and for early blocks

static void free_late(void *block) {
    if (!is_early(block))
        found.free(block);
}

static void *realloc_late(void *block, size_t size) {
    if (!is_early(block))
        return found.realloc(block, size);
    size_t old = early_size(block);
    void *fresh = found.malloc(size);
    if (fresh)
        memcpy(fresh, block, old < size ? old : size);
    return fresh;
}

static size_t usable_size_late(void *block) {
    return is_early(block) ? early_size(block) : found.malloc_usable_size(block);
}

static bool is_found(void) {
    look_up();
    if (!complete)
        return false;
    if (memprot_next.malloc != found.malloc) {
        bool used = early_used > 0;
        struct memprot_next late = found;
        if (used) {
            late.free = free_late;
            late.realloc = realloc_late;
            late.malloc_usable_size = usable_size_late;
        }
        memprot_next = late;
    }
    return true;
}

static void *first_malloc(size_t size) { return is_found() ? found.malloc(size) : early_allocate(1, size); }

static void *first_calloc(size_t count, size_t size) {
    if (is_found())
        return found.calloc(count, size);
    size_t total;
    return early_allocate(1, __builtin_mul_overflow(count, size, &total) ? SIZE_MAX : total);
}

static void *first_realloc(void *block, size_t size) {
    if (is_found())
        return block ? realloc_late(block, size) : found.malloc(size);
    void *fresh = early_allocate(1, size);
    if (fresh && block)
        memcpy(fresh, block, early_size(block) < size ? early_size(block) : size);
    return fresh;
}

static void *first_memalign(size_t align, size_t size) {
    return is_found() ? found.memalign(align, size) : early_allocate(align, size);
}

static void *first_aligned_alloc(size_t align, size_t size) {
    return is_found() ? found.aligned_alloc(align, size) : early_allocate(align, size);
}

static int first_posix_memalign(void **ret, size_t align, size_t size) {
    if (is_found())
        return found.posix_memalign(ret, align, size);
    *ret = early_allocate(align, size);
    return *ret ? 0 : ENOMEM;
}

static void *first_valloc(size_t size) { return is_found() ? found.valloc(size) : NULL; }

static void *first_pvalloc(size_t size) { return is_found() ? found.pvalloc(size) : NULL; }

static void first_free(void *block) {
    if (!is_early(block) && is_found())
        found.free(block);
}

static size_t first_usable_size(void *block) {
    return is_early(block) ? early_size(block) : is_found() ? found.malloc_usable_size(block) : 0;
}

struct memprot_next memprot_next = {
    .malloc = first_malloc,
    .calloc = first_calloc,
    .realloc = first_realloc,
    .memalign = first_memalign,
    .aligned_alloc = first_aligned_alloc,
    .posix_memalign = first_posix_memalign,
    .valloc = first_valloc,
    .pvalloc = first_pvalloc,
    .free = first_free,
    .malloc_usable_size = first_usable_size,
};
