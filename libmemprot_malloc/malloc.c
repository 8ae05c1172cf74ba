// malloc(3) and its relatives, served from guard pools; by the next allocator where a block is not guarded. A block is
// freed by what it is, so that those from before, and from elsewhere, stay what they are.
#include "next.h"
#include "settings.h"

#include "guard.h"
#include "imports.h"
#include "origin.h"
#include "page.h"
#include "program.h"
#include "sampling.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))
#define IN_FRONT __attribute__((constructor(101)))

// The thread is in here already: what memprot needs itself is not guarded, and neither is what signal handlers and the
// preparations of a fork ask for, while locks may be held.
static _Thread_local bool inside;
static _Thread_local int64_t until_turn;
static _Atomic uint64_t sampled_out;

uint64_t memprot_malloc_sampled_out(void) { return atomic_load_explicit(&sampled_out, memory_order_relaxed); }

// How many blocks pass until the next one is guarded: 1 to 2 * sample - 1, which is `sample` on average.
static void draw(uint32_t sample) {
    uint64_t span = 2 * (uint64_t)sample - 1;
    until_turn = 1 + (int64_t)(memprot_sample_number() * span >> 32);
    atomic_fetch_add_explicit(&sampled_out, (uint64_t)until_turn - 1, memory_order_relaxed);
}

// The thread's countdown has run out, or is not used.
static bool is_turn_now(void) {
    uint32_t sample = atomic_load_explicit(&memprot_malloc_settings.sample, memory_order_relaxed);
    if (sample <= 1)
        return sample == 1;
    bool first = until_turn < 0; // the thread's first block is guarded no sooner than others
    draw(sample);
    return !first;
}

// All that is done for a block that others are the sample of.
static inline bool may_be_turn(void) {
    uint32_t sample = atomic_load_explicit(&memprot_malloc_settings.sample, memory_order_relaxed);
    return __builtin_expect(sample > 1 ? --until_turn <= 0 : sample == 1, 0);
}

__attribute__((noinline)) static void *guarded(size_t align, size_t size, bool zeroed, struct memprot_caller caller) {
    size_t promised = atomic_load_explicit(&memprot_malloc_settings.align, memory_order_relaxed);
    if (inside || !is_turn_now())
        return NULL;
    int error = errno;
    inside = true;
    memprot_program_settle();
    struct memprot_guard_request request = {
        .size = size,
        .align = align > promised ? align : promised,
        .side = atomic_load_explicit(&memprot_malloc_settings.side, memory_order_relaxed),
        .owner = MEMPROT_GUARD_MALLOC,
        .zeroed = zeroed,
    };
    memprot_origin_capture(&caller, &request.origin);
    void *block = memprot_guard_allocate(&request);
    inside = false;
    errno = error;
    return block;
}

static inline bool is_guarded(const void *block) {
    return __builtin_expect(memprot_guard_may_hold((uintptr_t)block), 0) &&
           memprot_guard_overlay_at((uintptr_t)block) != NULL;
}

// What is no live block is told by the pools, and left as it is. What is freed while the thread is in here stays
// allocated: a lock may be held.
__attribute__((noinline)) static void free_guarded(void *block, struct memprot_caller caller) {
    if (inside)
        return;
    int error = errno;
    inside = true;
    struct memprot_origin origin;
    memprot_origin_capture(&caller, &origin);
    memprot_guard_free(block, MEMPROT_GUARD_MALLOC, &origin);
    inside = false;
    errno = error;
}

__attribute__((noinline)) static void *allocate_guarded(size_t size, struct memprot_caller caller) {
    void *block = guarded(1, size, false, caller);
    return block ? block : memprot_next.malloc(size);
}

static inline void *allocate(size_t size, struct memprot_caller caller) {
    return may_be_turn() ? allocate_guarded(size, caller) : memprot_next.malloc(size);
}

// The size of a block that is to become another one, or false where there is none.
static bool may_resize(void *block, size_t *size, struct memprot_caller caller) {
    if (inside) {
        *size = memprot_guard_size(block);
        return *size > 0;
    }
    inside = true;
    struct memprot_origin origin;
    memprot_origin_capture(&caller, &origin);
    enum memprot_guard_freeing answer = memprot_guard_resize(block, MEMPROT_GUARD_MALLOC, &origin, size);
    inside = false;
    return answer == MEMPROT_GUARD_LIVE;
}

static void *reallocate(void *block, size_t size, struct memprot_caller caller) {
    size_t old;
    if (!block)
        return allocate(size, caller);
    if (!is_guarded(block))
        return memprot_next.realloc(block, size);
    if (size == 0) {
        free_guarded(block, caller);
        return NULL;
    }
    if (!may_resize(block, &old, caller)) {
        errno = ENOMEM;
        return NULL;
    }
    void *fresh = allocate(size, caller);
    if (!fresh)
        return NULL; // the old block stays valid
    memcpy(fresh, block, old < size ? old : size);
    free_guarded(block, caller);
    return fresh;
}

// Alignments that are none, or more than a page, are the next allocator's to judge and to serve.
static void *aligned(size_t align, size_t size, struct memprot_caller caller) {
    bool fits = align != 0 && (align & (align - 1)) == 0 && align <= memprot_page_size();
    return fits && may_be_turn() ? guarded(align, size, false, caller) : NULL;
}

// ---- the functions

EXPORTED void *malloc(size_t size) { return allocate(size, MEMPROT_CALLER); }

EXPORTED void free(void *block) {
    if (is_guarded(block))
        free_guarded(block, MEMPROT_CALLER);
    else
        memprot_next.free(block);
}

EXPORTED void *calloc(size_t count, size_t size) {
    size_t total;
    if (may_be_turn() && !__builtin_mul_overflow(count, size, &total)) {
        void *block = guarded(1, total, true, MEMPROT_CALLER);
        if (block)
            return block;
    }
    return memprot_next.calloc(count, size);
}

EXPORTED void *realloc(void *block, size_t size) { return reallocate(block, size, MEMPROT_CALLER); }

EXPORTED void *reallocarray(void *block, size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return reallocate(block, total, MEMPROT_CALLER);
}

EXPORTED void *memalign(size_t align, size_t size) {
    void *block = aligned(align, size, MEMPROT_CALLER);
    return block ? block : memprot_next.memalign(align, size);
}

EXPORTED void *aligned_alloc(size_t align, size_t size) {
    void *block = aligned(align, size, MEMPROT_CALLER);
    return block ? block : memprot_next.aligned_alloc(align, size);
}

EXPORTED int posix_memalign(void **ret, size_t align, size_t size) {
    void *block = align % sizeof(void *) == 0 ? aligned(align, size, MEMPROT_CALLER) : NULL;
    if (!block)
        return memprot_next.posix_memalign(ret, align, size);
    *ret = block;
    return 0;
}

EXPORTED void *valloc(size_t size) {
    void *block = aligned(memprot_page_size(), size, MEMPROT_CALLER);
    return block ? block : memprot_next.valloc(size);
}

EXPORTED void *pvalloc(size_t size) {
    void *block =
        size <= PTRDIFF_MAX ? aligned(memprot_page_size(), memprot_page_ceil(size ? size : 1), MEMPROT_CALLER) : NULL;
    return block ? block : memprot_next.pvalloc(size);
}

// Old programs know it by this name; new ones cannot be linked to it.
EXPORTED void cfree(void *block) { free(block); }

EXPORTED size_t malloc_usable_size(void *block) {
    return is_guarded(block) ? memprot_guard_size(block) : memprot_next.malloc_usable_size(block);
}

// ---- the start

static void stay_outside(void) { inside = true; }

static void come_back(void) { inside = false; }

static void complain(const char *word) {
    static const char start[] = "memprot: MEMPROT_MALLOC: unknown word '";
    static const char stop[] = "' (sample=N side=right|left|random|turns align=N quarantine=BYTES); "
                               "the program runs unguarded.\n";
    size_t length = strcspn(word, " ");
    // Nobody is left to be told of what cannot be written.
    if (write(STDERR_FILENO, start, sizeof start - 1) > 0 && write(STDERR_FILENO, word, length) > 0)
        (void)!write(STDERR_FILENO, stop, sizeof stop - 1);
}

static const char *find_words(char *const *entries) {
    static const char name[] = "MEMPROT_MALLOC=";
    for (; *entries; entries++) {
        if (strncmp(*entries, name, sizeof name - 1) == 0)
            return *entries + sizeof name - 1;
    }
    return NULL;
}

IN_FRONT static void start(void) {
    inside = true;
    memprot_imports_leave_alone((uintptr_t)&start);
    // Forks prepare in the reverse order: first the thread stays outside, then the pools' lock is taken.
    memprot_guard_prepare();
    if (pthread_atfork(stay_outside, come_back, come_back) == 0) {
        const char *words = find_words(environ);
        const char *unknown = words ? memprot_malloc_settings_read(words) : NULL;
        if (unknown)
            complain(unknown);
    }
    inside = false;
}
