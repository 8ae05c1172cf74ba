#include "guard.h"

#include "guard_pages.h"
#include "page.h"
#include "sampling.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

// An address finds its pool in a table of two levels.
#define UNIT MEMPROT_GUARD_UNIT

enum {
    GUARD_LEAST = 64 << 10, // bytes: an overrun by a whole row of a matrix still meets it
    GUARD_MOST = 1 << 20,
    CLASSES = 160, // four sizes for each doubling, in pages
    LEAVES = 1 << 11,
    LEAF = 1 << 12,
    NO_SLOT = -1,
};

// Freed pages stay resident up to this many bytes in all; beyond it they are given back at once.
static const size_t retention = (size_t)256 << 20;
// Zeroing a freed block of at least this size by giving its pages back is cheaper than by memset.
static const size_t discard_threshold = (size_t)512 << 10;

__extension__ typedef unsigned __int128 wide; // ISO C has no name for it

enum slot_state { SLOT_UNUSED, SLOT_CLEAN, SLOT_DIRTY, SLOT_LIVE }; // clean: free, and its pages read as zeros

struct slot {
    uintptr_t block;
    size_t size;
    struct memprot_origin allocated;
    int32_t next_free;
    uint8_t owner;
    _Atomic uint8_t state;
};

struct pool {
    struct memprot_overlay overlay;
    uintptr_t slots_start;
    size_t data, stride; // bytes
    uint64_t reciprocal; // floor(2^64 / stride) + 1: slot number = high half of offset * reciprocal
    size_t capacity, carved;
    int32_t free;
    struct pool *next; // of the same class, with room
    bool listed;
    struct slot slots[];
};

static _Atomic(_Atomic(struct pool *) *) table[LEAVES];
static struct pool *with_room[CLASSES];
static atomic_flag lock = ATOMIC_FLAG_INIT;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;
static size_t mapped, resident_free, overhead, overhead_limit;
static struct memprot_guard_statistics statistics[MEMPROT_GUARD_OWNERS];
static atomic_ullong sampled_out[MEMPROT_GUARD_OWNERS], left_alone[MEMPROT_GUARD_OWNERS];

// A spin lock: it is held for a few instructions, hardly ever by two (NumPy allocates with the interpreter
// held), and a mutex would double the cost of a block.
static inline void acquire(void) {
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire))
        sched_yield();
}

static inline void release(void) { atomic_flag_clear_explicit(&lock, memory_order_release); }

static void prepare(void) {
    // An eighth of the machine: a program that lives on millions of small arrays must not run out of memory
    // through us.
    overhead_limit = (size_t)sysconf(_SC_PHYS_PAGES) / 8 * memprot_page_size();
    memprot_guard_pages_by_madvise();
    pthread_atfork(acquire, release, release);
}

// May run in a signal handler.
static struct pool *pool_at(uintptr_t address) {
    uintptr_t unit = address / UNIT;
    if (unit / LEAF >= LEAVES)
        return NULL;
    _Atomic(struct pool *) *leaf = atomic_load_explicit(&table[unit / LEAF], memory_order_acquire);
    return leaf ? atomic_load_explicit(&leaf[unit % LEAF], memory_order_acquire) : NULL;
}

// May run in a signal handler.
static struct slot *slot_at(struct pool *pool, uintptr_t address) {
    if (address < pool->slots_start)
        return NULL;
    size_t index = (size_t)(((wide)(address - pool->slots_start) * pool->reciprocal) >> 64);
    return index < pool->capacity ? &pool->slots[index] : NULL;
}

// May run in a signal handler.
static uintptr_t data_of(const struct pool *pool, const struct slot *slot) {
    return pool->slots_start + (size_t)(slot - pool->slots) * pool->stride;
}

static int register_pool(struct pool *pool, uintptr_t start, uintptr_t stop) {
    for (uintptr_t unit = start / UNIT; unit < stop / UNIT; unit++) {
        if (unit / LEAF >= LEAVES)
            return -1;
        _Atomic(struct pool *) *leaf = atomic_load(&table[unit / LEAF]);
        if (!leaf) {
            leaf = mmap(NULL, LEAF * sizeof *leaf, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (leaf == MAP_FAILED)
                return -1;
            atomic_store_explicit(&table[unit / LEAF], leaf, memory_order_release);
        }
        atomic_store_explicit(&leaf[unit % LEAF], pool, memory_order_release);
    }
    return 0;
}

static void unregister_pool(uintptr_t start, uintptr_t stop) {
    for (uintptr_t unit = start / UNIT; unit < stop / UNIT && unit / LEAF < LEAVES; unit++) {
        _Atomic(struct pool *) *leaf = atomic_load(&table[unit / LEAF]);
        if (leaf)
            atomic_store(&leaf[unit % LEAF], NULL);
    }
}

// Address space that the program may want itself is not ours to take: at most a quarter of its limit.
static bool address_space_allows(size_t length) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) < 0)
        return false;
    return limit.rlim_cur == RLIM_INFINITY || mapped + length <= limit.rlim_cur / 4;
}

static void *map_aligned(size_t length) {
    char *start = mmap(NULL, length + UNIT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    char *aligned = (char *)(((uintptr_t)start + UNIT - 1) / UNIT * UNIT);
    if (aligned > start)
        munmap(start, (size_t)(aligned - start));
    munmap(aligned + length, (size_t)(start + UNIT - aligned));
    return aligned;
}

static struct pool *create_pool(size_t data) {
    size_t guard = data / 8 < GUARD_LEAST  ? GUARD_LEAST
                   : data / 8 > GUARD_MOST ? GUARD_MOST
                                           : memprot_page_ceil(data / 8);
    size_t stride = data + guard;
    size_t length = (guard + stride + UNIT - 1) / UNIT * UNIT;
    size_t capacity = (length - guard) / stride;
    if (length < data || !address_space_allows(length))
        return NULL;
    size_t bytes = memprot_page_ceil(sizeof(struct pool) + capacity * sizeof(struct slot));
    struct pool *pool = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool == MAP_FAILED)
        return NULL;
    char *start = map_aligned(length);
    if (!start)
        goto free_pool;
    if (memprot_overlay_init(&pool->overlay, (uintptr_t)start, length / memprot_page_size(), MEMPROT_BACKING_GUARD,
                             MEMPROT_PAGE_FOREIGN, 0) < 0)
        goto unmap;
    pool->slots_start = (uintptr_t)start + guard;
    pool->data = data;
    pool->stride = stride;
    pool->reciprocal = UINT64_MAX / stride + 1;
    pool->capacity = capacity;
    pool->free = NO_SLOT;
    if (memprot_guard_pages_install((uintptr_t)start, guard) < 0)
        goto deinit;
    memset((void *)pool->overlay.state, MEMPROT_PAGE_REAL, guard / memprot_page_size());
    if (register_pool(pool, (uintptr_t)start, (uintptr_t)start + length) == 0) {
        mapped += length;
        return pool;
    }
    unregister_pool((uintptr_t)start, (uintptr_t)start + length);
deinit:
    memprot_overlay_deinit(&pool->overlay);
unmap:
    munmap(start, length);
free_pool:
    munmap(pool, bytes);
    return NULL;
}

// The pages of class c: 1 to 4, then four steps for each doubling.
static size_t class_of(size_t pages, size_t *rounded) {
    if (pages <= 4) {
        *rounded = pages;
        return pages - 1;
    }
    unsigned shift = (unsigned)(63 - __builtin_clzl(pages - 1)) - 2;
    size_t quarter = ((pages - 1) >> shift) + 1; // 5 to 8
    *rounded = quarter << shift;
    return 4 * shift + quarter - 1;
}

// A slot that was never used before: its guard is installed only now. Called with the lock held.
static struct slot *carve(struct pool *pool) {
    struct slot *slot = &pool->slots[pool->carved];
    uintptr_t guard = data_of(pool, slot) + pool->data;
    size_t length = pool->stride - pool->data, size = memprot_page_size();
    if (memprot_guard_pages_install(guard, length) < 0)
        return NULL;
    for (size_t page = (guard - pool->overlay.start) / size, end = page + length / size; page < end; page++)
        atomic_store_explicit(&pool->overlay.state[page], MEMPROT_PAGE_REAL, memory_order_release);
    slot->state = SLOT_CLEAN;
    pool->carved++;
    return slot;
}

// Called with the lock held.
static void list_pool(struct pool *pool) {
    size_t rounded, class = class_of(memprot_page_count(pool->data), &rounded);
    pool->next = with_room[class];
    pool->listed = true;
    with_room[class] = pool;
}

// Called with the lock held.
static struct slot *take_slot(size_t class, size_t data, struct pool **from) {
    struct pool *pool = with_room[class];
    if (!pool) {
        pool = create_pool(data);
        if (!pool)
            return NULL;
        list_pool(pool);
    }
    struct slot *slot;
    if (pool->free != NO_SLOT) {
        slot = &pool->slots[pool->free];
        pool->free = slot->next_free;
        if (slot->state == SLOT_DIRTY)
            resident_free -= pool->data;
    } else {
        slot = carve(pool);
        if (!slot)
            return NULL;
    }
    if (pool->free == NO_SLOT && pool->carved == pool->capacity) {
        with_room[class] = pool->next;
        pool->listed = false;
    }
    *from = pool;
    return slot;
}

// Called with the lock held.
static enum memprot_side side_of(enum memprot_side asked) {
    static unsigned turn;
    if (asked == MEMPROT_SIDE_TURNS)
        return turn++ % 2 ? MEMPROT_SIDE_LEFT : MEMPROT_SIDE_RIGHT;
    if (asked == MEMPROT_SIDE_RANDOM)
        return memprot_sample_number() % 2 ? MEMPROT_SIDE_LEFT : MEMPROT_SIDE_RIGHT;
    return asked;
}

void *memprot_guard_allocate(const struct memprot_guard_request *request) {
    pthread_once(&prepared, prepare);
    size_t size = request->size ? request->size : 1;
    size_t pages = memprot_page_count(size), rounded;
    if (pages > (size_t)1 << 34)
        return NULL;
    size_t class = class_of(pages, &rounded), waste = (pages << memprot_page_shift) - size;
    struct memprot_guard_statistics *counts = &statistics[request->owner];
    struct pool *pool;
    struct slot *slot = NULL;
    acquire();
    if (overhead + waste <= overhead_limit)
        slot = take_slot(class, rounded << memprot_page_shift, &pool);
    if (!slot) {
        counts->refused++;
        release();
        return NULL;
    }
    bool dirty = slot->state == SLOT_DIRTY;
    uintptr_t start = data_of(pool, slot);
    uintptr_t block =
        side_of(request->side) == MEMPROT_SIDE_RIGHT ? (start + pool->data - size) & ~(uintptr_t)(request->align - 1) : start;
    slot->block = block;
    slot->size = size;
    slot->allocated = request->origin;
    slot->owner = (uint8_t)request->owner;
    atomic_store_explicit(&slot->state, SLOT_LIVE, memory_order_release);
    overhead += waste;
    counts->blocks++;
    counts->bytes += size;
    counts->overhead += waste;
    if (counts->overhead > counts->peak_overhead)
        counts->peak_overhead = counts->overhead;
    release();
    if (request->zeroed && dirty && (size < discard_threshold || madvise((void *)start, pool->data, MADV_DONTNEED) < 0))
        memset((void *)block, 0, size);
    return (void *)block;
}

static struct slot *live_slot(const struct pool *pool, uintptr_t block) {
    struct slot *slot = slot_at((struct pool *)pool, block);
    return slot && slot->state == SLOT_LIVE && slot->block == block ? slot : NULL;
}

size_t memprot_guard_size(const void *block) {
    struct pool *pool = pool_at((uintptr_t)block);
    struct slot *slot = pool ? live_slot(pool, (uintptr_t)block) : NULL;
    return slot ? slot->size : 0;
}

// The guards beside a block must stand before the next block comes, even when a fault there was not claimed
// yet.
static void close_around(struct pool *pool, uintptr_t start) {
    size_t guard = memprot_page_count(pool->stride - pool->data);
    size_t first = (start - pool->overlay.start) >> memprot_page_shift;
    memprot_record_close_pages(&pool->overlay, first - guard, 2 * guard + memprot_page_count(pool->data));
}

enum memprot_guard_freeing memprot_guard_free(void *block, enum memprot_guard_owner by,
                                              const struct memprot_origin *origin) {
    (void)by, (void)origin;
    struct pool *pool = pool_at((uintptr_t)block);
    if (!pool)
        return MEMPROT_GUARD_FOREIGN;
    struct slot *slot = live_slot(pool, (uintptr_t)block);
    if (!slot)
        return MEMPROT_GUARD_WILD;
    uintptr_t start = data_of(pool, slot);
    if (memprot_record_waiting() > 0)
        close_around(pool, start);
    // Read without the lock: a page more or less is kept.
    bool discard = resident_free + pool->data > retention && madvise((void *)start, pool->data, MADV_DONTNEED) == 0;
    acquire();
    size_t waste = memprot_page_ceil(slot->size) - slot->size;
    struct memprot_guard_statistics *counts = &statistics[slot->owner];
    overhead -= waste;
    counts->overhead -= waste;
    counts->freed_blocks++;
    counts->freed_bytes += slot->size;
    if (!discard)
        resident_free += pool->data;
    atomic_store_explicit(&slot->state, discard ? SLOT_CLEAN : SLOT_DIRTY, memory_order_release);
    slot->next_free = pool->free;
    pool->free = (int32_t)(slot - pool->slots);
    if (!pool->listed)
        list_pool(pool);
    release();
    return MEMPROT_GUARD_FREED;
}

// May run in a signal handler.
struct memprot_overlay *memprot_guard_overlay_at(uintptr_t address) {
    struct pool *pool = pool_at(address);
    return pool ? &pool->overlay : NULL;
}

// May run in a signal handler.
static bool read_slot(struct slot *slot, struct memprot_block *ret) {
    if (atomic_load_explicit(&slot->state, memory_order_acquire) != SLOT_LIVE)
        return false;
    *ret = (struct memprot_block){slot->block, slot->size, slot->allocated.python};
    return true;
}

// May run in a signal handler.
bool memprot_guard_block_near(uintptr_t address, struct memprot_block *ret) {
    struct pool *pool = pool_at(address);
    struct memprot_block before, after;
    if (!pool)
        return false;
    struct slot *slot = slot_at(pool, address);
    struct slot *next = slot ? slot + 1 : &pool->slots[0];
    bool has_before = slot && read_slot(slot, &before);
    bool has_after = next < pool->slots + pool->capacity && read_slot(next, &after);
    if (has_before && has_after)
        has_before = address - (before.address + before.size) <= after.address - 1 - address;
    if (has_before)
        *ret = before;
    else if (has_after)
        *ret = after;
    return has_before || has_after;
}

void memprot_guard_set_quarantine(size_t limit) { (void)limit; }

size_t memprot_guard_check(void) { return 0; }

void memprot_guard_count_sampled_out(enum memprot_guard_owner owner) {
    atomic_fetch_add_explicit(&sampled_out[owner], 1, memory_order_relaxed);
}

void memprot_guard_count_left_alone(enum memprot_guard_owner owner) {
    atomic_fetch_add_explicit(&left_alone[owner], 1, memory_order_relaxed);
}

void memprot_guard_read_statistics(enum memprot_guard_owner of, struct memprot_guard_statistics *ret) {
    acquire();
    memprot_guard_peek_statistics(of, ret);
    release();
}

// May run in a signal handler.
void memprot_guard_peek_statistics(enum memprot_guard_owner of, struct memprot_guard_statistics *ret) {
    *ret = statistics[of];
    ret->sampled_out = atomic_load_explicit(&sampled_out[of], memory_order_relaxed);
    ret->left_alone = atomic_load_explicit(&left_alone[of], memory_order_relaxed);
}
