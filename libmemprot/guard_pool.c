#include "guard_pool.h"

#include "guard_pages.h"
#include "page.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

// An address finds its pool in a table of two levels.
#define UNIT MEMPROT_GUARD_UNIT

enum {
    GUARD_LEAST = 64 << 10, // bytes: an overrun by a whole row of a matrix still meets it
    GUARD_MOST = 1 << 20,
    CLASSES = 160, // four sizes for each doubling, in pages
    LEAVES = 1 << 11,
    LEAF = 1 << 12,
    LONGEST_PAUSE = 1 << 12,
};

__extension__ typedef unsigned __int128 wide; // ISO C has no name for it

// What blocks of objects share is memory whose faults nobody can go on from.
enum group { RECOVERABLE, FATAL, GROUPS };

static _Atomic(_Atomic(struct memprot_pool *) *) table[LEAVES];
static _Atomic(struct memprot_pool *) newest;
static struct memprot_pool *with_room[GROUPS * CLASSES];
// A pool that could not be made is not tried for again with each block: the pauses become longer.
static struct {
    uint16_t pause, left;
    uint8_t why;
} refused[GROUPS * CLASSES];
static atomic_flag lock = ATOMIC_FLAG_INIT;
static _Thread_local bool forks __attribute__((tls_model("initial-exec")));
static size_t mapped, resident_free;
// Freed pages stay resident up to this many bytes in all; beyond it they are given back at once.
static size_t retention = (size_t)256 << 20;

// A spin lock: it is held for a few instructions, hardly ever by two (NumPy allocates with the interpreter
// held), and a mutex would double the cost of a block.
void memprot_pool_lock(void) {
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire)) {
        if (forks)
            return;
        sched_yield();
    }
}

void memprot_pool_unlock(void) {
    if (!forks)
        atomic_flag_clear_explicit(&lock, memory_order_release);
}

// Others who watch for forks may allocate between these two.
static void before_fork(void) {
    memprot_pool_lock();
    forks = true;
}

static void after_fork(void) {
    forks = false;
    memprot_pool_unlock();
}

void memprot_pool_prepare(size_t most) {
    retention = retention < most ? retention : most;
    memprot_guard_pages_by_madvise();
    pthread_atfork(before_fork, after_fork, after_fork);
}

// May run in a signal handler.
struct memprot_pool *memprot_pool_at(uintptr_t address) {
    uintptr_t unit = address / UNIT;
    if (unit / LEAF >= LEAVES)
        return NULL;
    _Atomic(struct memprot_pool *) *leaf = atomic_load_explicit(&table[unit / LEAF], memory_order_acquire);
    return leaf ? atomic_load_explicit(&leaf[unit % LEAF], memory_order_acquire) : NULL;
}

// May run in a signal handler.
struct memprot_slot *memprot_pool_slot_at(struct memprot_pool *pool, uintptr_t address) {
    if (address < pool->slots_start)
        return NULL;
    size_t index = (size_t)(((wide)(address - pool->slots_start) * pool->reciprocal) >> 64);
    return index < pool->capacity ? &pool->slots[index] : NULL;
}

// May run in a signal handler.
struct memprot_pool *memprot_pool_newest(void) { return atomic_load_explicit(&newest, memory_order_acquire); }

bool memprot_pool_keeps_enough(const struct memprot_pool *pool) { return resident_free + pool->data > retention; }

bool memprot_pool_discard(const struct memprot_pool *pool, const struct memprot_slot *slot) {
    // Read without the lock: a page more or less is kept.
    return memprot_pool_keeps_enough(pool) &&
           madvise((void *)memprot_pool_data_of(pool, slot), pool->data, MADV_DONTNEED) == 0;
}

_Atomic uintptr_t memprot_guard_start = UINTPTR_MAX, memprot_guard_stop;

static int register_pool(struct memprot_pool *pool, uintptr_t start, uintptr_t stop) {
    for (uintptr_t unit = start / UNIT; unit < stop / UNIT; unit++) {
        if (unit / LEAF >= LEAVES)
            return -1;
        _Atomic(struct memprot_pool *) *leaf = atomic_load(&table[unit / LEAF]);
        if (!leaf) {
            leaf = mmap(NULL, LEAF * sizeof *leaf, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (leaf == MAP_FAILED)
                return -1;
            atomic_store_explicit(&table[unit / LEAF], leaf, memory_order_release);
        }
        atomic_store_explicit(&leaf[unit % LEAF], pool, memory_order_release);
    }
    if (start < atomic_load(&memprot_guard_start))
        atomic_store(&memprot_guard_start, start);
    if (stop > atomic_load(&memprot_guard_stop))
        atomic_store(&memprot_guard_stop, stop);
    return 0;
}

static void unregister_pool(uintptr_t start, uintptr_t stop) {
    for (uintptr_t unit = start / UNIT; unit < stop / UNIT && unit / LEAF < LEAVES; unit++) {
        _Atomic(struct memprot_pool *) *leaf = atomic_load(&table[unit / LEAF]);
        if (leaf)
            atomic_store(&leaf[unit % LEAF], NULL);
    }
}

// Room that the program may want itself is not ours to take: at most a quarter of its limit.
static bool limit_allows(int resource, size_t length) {
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) < 0)
        return false;
    return limit.rlim_cur == RLIM_INFINITY || mapped + length <= limit.rlim_cur / 4;
}

// Inaccessible at first: were memory locked as it is mapped, all of it would be filled with pages.
static void *map_aligned(size_t length) {
    char *start = mmap(NULL, length + UNIT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    char *aligned = (char *)(((uintptr_t)start + UNIT - 1) / UNIT * UNIT);
    if (aligned > start)
        munmap(start, (size_t)(aligned - start));
    munmap(aligned + length, (size_t)(start + UNIT - aligned));
    return aligned;
}

// The mapping as it is used: its first guard stands, and the rest may be.
static int lay_out(void *start, size_t length, size_t guard) {
    if (memprot_guard_pages_are_protections())
        return mprotect((char *)start + guard, length - guard, PROT_READ | PROT_WRITE);
    if (memprot_guard_pages_install((uintptr_t)start, guard) < 0)
        return -1;
    return mprotect(start, length, PROT_READ | PROT_WRITE);
}

// As the system call that failed has it: locked pages take no guards (EINVAL), and no more may be locked (EAGAIN).
static enum memprot_guard_refusal refusal_of(int error) {
    return error == EINVAL || error == EAGAIN ? MEMPROT_GUARD_LOCKED : MEMPROT_GUARD_NO_MEMORY;
}

static struct memprot_pool *create_pool(const struct memprot_shelf *shelf, enum memprot_guard_refusal *why) {
    size_t data = shelf->data;
    size_t guard = data / 8 < GUARD_LEAST  ? GUARD_LEAST
                   : data / 8 > GUARD_MOST ? GUARD_MOST
                                           : memprot_page_ceil(data / 8);
    size_t stride = data + guard;
    size_t length = (guard + stride + UNIT - 1) / UNIT * UNIT;
    size_t capacity = (length - guard) / stride;
    *why = !limit_allows(RLIMIT_AS, length)     ? MEMPROT_GUARD_ADDRESS_SPACE
           : !limit_allows(RLIMIT_DATA, length) ? MEMPROT_GUARD_DATA_LIMIT
           : length < data                      ? MEMPROT_GUARD_NO_MEMORY
                                                : MEMPROT_GUARD_NOT_REFUSED;
    if (*why != MEMPROT_GUARD_NOT_REFUSED)
        return NULL;
    *why = MEMPROT_GUARD_NO_MEMORY;
    char *start = map_aligned(length);
    if (!start) {
        *why = refusal_of(errno);
        return NULL;
    }
    size_t bytes = memprot_page_ceil(sizeof(struct memprot_pool) + capacity * sizeof(struct memprot_slot));
    struct memprot_pool *pool = MAP_FAILED;
    if (lay_out(start, length, guard) < 0) {
        *why = refusal_of(errno);
        goto unmap;
    }
    pool = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool == MAP_FAILED || memprot_overlay_init(&pool->overlay, (uintptr_t)start, length / memprot_page_size(),
                                                   MEMPROT_BACKING_GUARD, MEMPROT_PAGE_FOREIGN, 0) < 0)
        goto unmap;
    if (shelf->number >= CLASSES)
        memprot_policy_of_memory(&pool->overlay.policy, MEMPROT_POLICY_ABORT);
    pool->slots_start = (uintptr_t)start + guard;
    pool->data = data;
    pool->stride = stride;
    pool->reciprocal = UINT64_MAX / stride + 1;
    pool->capacity = capacity;
    pool->shelf = shelf->number;
    memset((void *)pool->overlay.state, MEMPROT_PAGE_REAL, guard / memprot_page_size());
    if (register_pool(pool, (uintptr_t)start, (uintptr_t)start + length) == 0) {
        mapped += length;
        pool->older = memprot_pool_newest();
        atomic_store_explicit(&newest, pool, memory_order_release);
        return pool;
    }
    unregister_pool((uintptr_t)start, (uintptr_t)start + length);
    memprot_overlay_deinit(&pool->overlay);
unmap:
    munmap(start, length);
    if (pool != MAP_FAILED)
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

struct memprot_shelf memprot_shelf_of(size_t pages, enum memprot_guard_owner owner) {
    size_t rounded, class = class_of(pages, &rounded);
    enum group group = owner == MEMPROT_GUARD_OBJ ? FATAL : RECOVERABLE;
    return (struct memprot_shelf){group * CLASSES + class, rounded << memprot_page_shift};
}

// A slot that was never used before: its guard is installed only now.
static struct memprot_slot *carve(struct memprot_pool *pool) {
    struct memprot_slot *slot = &pool->slots[pool->carved];
    uintptr_t guard = memprot_pool_data_of(pool, slot) + pool->data;
    size_t length = pool->stride - pool->data, size = memprot_page_size();
    if (memprot_guard_pages_install(guard, length) < 0)
        return NULL;
    for (size_t page = (guard - pool->overlay.start) / size, end = page + length / size; page < end; page++)
        atomic_store_explicit(&pool->overlay.state[page], MEMPROT_PAGE_REAL, memory_order_release);
    slot->state = MEMPROT_SLOT_CLEAN;
    pool->carved++;
    return slot;
}

static void list_pool(struct memprot_pool *pool) {
    pool->next = with_room[pool->shelf];
    pool->listed = true;
    with_room[pool->shelf] = pool;
}

static struct memprot_slot *refuse(size_t shelf, enum memprot_guard_refusal why) {
    uint16_t longer = refused[shelf].pause < LONGEST_PAUSE ? (uint16_t)(2 * refused[shelf].pause + 1) : LONGEST_PAUSE;
    refused[shelf].pause = refused[shelf].left = longer;
    refused[shelf].why = (uint8_t)why;
    return NULL;
}

struct memprot_slot *memprot_pool_take(const struct memprot_shelf *shelf, struct memprot_pool **from, bool *clean,
                                       enum memprot_guard_refusal *why) {
    struct memprot_pool *pool = with_room[shelf->number];
    *why = (enum memprot_guard_refusal)refused[shelf->number].why;
    if ((!pool || !pool->free) && refused[shelf->number].left > 0) {
        refused[shelf->number].left--;
        return NULL;
    }
    if (!pool) {
        pool = create_pool(shelf, why);
        if (!pool)
            return refuse(shelf->number, *why);
        list_pool(pool);
    }
    struct memprot_slot *slot = pool->free;
    if (slot) {
        pool->free = slot->next;
        if (slot->state == MEMPROT_SLOT_DIRTY)
            resident_free -= pool->data;
    } else {
        slot = carve(pool);
        if (!slot)
            return refuse(shelf->number, *why = refusal_of(errno));
        refused[shelf->number].pause = 0;
    }
    if (!pool->free && pool->carved == pool->capacity) {
        with_room[shelf->number] = pool->next;
        pool->listed = false;
    }
    *from = pool;
    *clean = slot->state == MEMPROT_SLOT_CLEAN;
    atomic_store_explicit(&slot->state, MEMPROT_SLOT_TAKEN, memory_order_release);
    return slot;
}

void memprot_pool_give(struct memprot_pool *pool, struct memprot_slot *slot, bool clean) {
    if (!clean)
        resident_free += pool->data;
    atomic_store_explicit(&slot->state, clean ? MEMPROT_SLOT_CLEAN : MEMPROT_SLOT_DIRTY, memory_order_release);
    slot->next = pool->free;
    pool->free = slot;
    if (!pool->listed)
        list_pool(pool);
}
