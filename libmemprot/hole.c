#include "hole.h"

#include "access.h"
#include "calls.h"
#include "own_maps.h"
#include "page.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HOLES = 4096, KEEP = 4 }; // MREMAP_DONTUNMAP, which older headers lack

static struct memprot_hole holes[HOLES];
static atomic_int used; // one past the highest ever taken
static atomic_int open_holes;

// No program maps /dev/zero from here on by itself.
static uint64_t next_offset = (uint64_t)1 << 48;

static atomic_bool locked;
static _Thread_local volatile bool locked_here;

// May run in a signal handler.
bool memprot_hole_lock(void) {
    if (locked_here)
        return false;
    while (atomic_exchange_explicit(&locked, true, memory_order_acquire))
        sched_yield();
    locked_here = true;
    return true;
}

// May run in a signal handler.
void memprot_hole_unlock(void) {
    locked_here = false;
    atomic_store_explicit(&locked, false, memory_order_release);
}

static void lock_for_fork(void) { (void)memprot_hole_lock(); }

// Registered first, and so taken when no handler is at work any more, and given back before any is in the child.
__attribute__((constructor)) static void watch_forks(void) {
    // Should there be no memory for it, a child may inherit zeros that nobody takes away.
    (void)pthread_atfork(lock_for_fork, memprot_hole_unlock, memprot_hole_unlock);
}

// May run in a signal handler.
static bool are_zeros_of(const struct memprot_hole *hole, const struct memprot_mapping *found) {
    return !found->shared && found->inode != 0 && found->offset - found->start == hole->offset - hole->start;
}

// May run in a signal handler.
static struct memprot_hole *take_free(void) {
    for (int i = 0; i < HOLES; i++) {
        if (atomic_load(&holes[i].start))
            continue;
        if (i >= atomic_load(&used))
            atomic_store(&used, i + 1);
        return &holes[i];
    }
    errno = ENOSPC;
    return NULL;
}

// The mapping stays where it is, and whatever pages it has go along to a second one: from Linux 5.13 on for files. May
// run in a signal handler.
static char *second_mapping(uintptr_t start, size_t length) {
    char *aside = mremap((void *)start, length, length, MREMAP_MAYMOVE | KEEP, NULL);
    return aside == MAP_FAILED ? NULL : aside;
}

// May run in a signal handler.
static void *map_zeros(void *at, size_t length, int prot, int flags, uint64_t offset) {
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    if (zero < 0)
        return MAP_FAILED;
    void *mapped = mmap(at, length, prot, MAP_PRIVATE | MAP_NORESERVE | flags, zero, (off_t)offset);
    int error = errno;
    close(zero);
    errno = error;
    return mapped;
}

// Copies what pages have bytes, and then takes their place at once, so that nobody who reads them meets zeros. May run
// in a signal handler.
static bool lay_copy(uintptr_t start, size_t length, uint8_t prot, uint64_t offset) {
    char *copy = map_zeros(NULL, length, PROT_READ | PROT_WRITE, 0, offset);
    if (copy == MAP_FAILED)
        return false;
    *(volatile char *)copy = 0; // the kernel forgets the offset of what is moved before it was ever touched
    for (size_t at = 0; at < length; at += memprot_page_size())
        (void)memprot_access_copy(copy + at, (void *)(start + at), memprot_page_size()); // what it lacks stays zero
    if (memprot_mprotect((uintptr_t)copy, length, prot) == 0 &&
        mremap(copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start) != MAP_FAILED)
        return true;
    int error = errno;
    munmap(copy, length);
    errno = error;
    return false;
}

// May run in a signal handler.
static bool lay(uintptr_t start, size_t length, uint8_t prot, uint64_t offset, bool copied) {
    return copied ? lay_copy(start, length, prot, offset)
                  : map_zeros((void *)start, length, prot, MAP_FIXED, offset) != MAP_FAILED;
}

// May run in a signal handler.
static void move_back(char *aside, uintptr_t start, size_t length) {
    if (mremap(aside, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start) != MAP_FAILED)
        return;
    // The limit of mappings: a death that is told is better than zeros that nobody is told of.
    (void)memprot_mprotect(start, length, PROT_NONE);
    munmap(aside, length);
}

// May run in a signal handler.
struct memprot_hole *memprot_hole_open(uintptr_t start, uintptr_t stop, uint8_t prot, bool copied) {
    size_t length = stop - start;
    struct memprot_hole *hole = take_free();
    char *aside = hole ? second_mapping(start, length) : NULL;
    if (!aside)
        return NULL;
    if (!lay(start, length, prot, next_offset, copied)) {
        int error = errno;
        move_back(aside, start, length);
        errno = error;
        return NULL;
    }
    hole->stop = stop;
    hole->aside = aside;
    hole->offset = next_offset;
    hole->prot = prot;
    hole->next = NULL;
    atomic_store_explicit(&hole->start, start, memory_order_release);
    atomic_fetch_add(&open_holes, 1);
    next_offset += length;
    return hole;
}

// What the kernel has from @p at on, up to @p next: whether it is the hole's zeros. Where nobody can be asked they are
// taken to be what they were. May run in a signal handler.
static bool look(const struct memprot_hole *hole, uintptr_t at, uintptr_t *next, uint8_t *prot) {
    struct memprot_mapping found;
    int answer = memprot_own_maps_find(at, &found, NULL, 0);
    *next = hole->stop;
    *prot = hole->prot;
    if (answer <= 0)
        return answer < 0;
    uintptr_t border = found.start > at ? found.start : found.stop;
    *next = border < hole->stop ? border : hole->stop;
    *prot = found.prot;
    return found.start <= at && are_zeros_of(hole, &found);
}

// May run in a signal handler.
bool memprot_hole_covers(uintptr_t address) {
    struct memprot_mapping found;
    if (atomic_load(&open_holes) == 0 || memprot_own_maps_find(address, &found, NULL, 0) != 1 || found.start > address)
        return false;
    for (int i = 0, high = atomic_load(&used); i < high; i++) {
        uintptr_t start = atomic_load(&holes[i].start);
        if (start && holes[i].aside && address >= start && address < holes[i].stop)
            return are_zeros_of(&holes[i], &found);
    }
    return false;
}

// Others may have unmapped zeros, mapped something over them, or changed their protection. May run in a signal handler.
static void put_back(struct memprot_hole *hole) {
    uintptr_t start = atomic_load(&hole->start), next;
    for (uintptr_t at = start; at < hole->stop; at = next) {
        char *aside = hole->aside + (at - start);
        uint8_t prot;
        bool ours = look(hole, at, &next, &prot);
        if (ours && prot != hole->prot)
            (void)memprot_mprotect((uintptr_t)aside, next - at, prot);
        if (ours)
            move_back(aside, at, next - at);
        else
            munmap(aside, next - at);
    }
    hole->aside = NULL;
}

// May run in a signal handler.
void memprot_hole_close(struct memprot_hole *first) {
    if (!first || !memprot_hole_lock())
        return;
    for (struct memprot_hole *hole = first, *next; hole; hole = next) {
        next = hole->next;
        if (hole->aside)
            put_back(hole);
        atomic_store(&hole->start, 0);
        atomic_fetch_sub(&open_holes, 1);
    }
    memprot_hole_unlock();
}

// May run in a signal handler.
void memprot_hole_put_back(uintptr_t start, uintptr_t stop) {
    if (atomic_load(&open_holes) == 0 || !memprot_hole_lock())
        return;
    for (int i = 0, high = atomic_load(&used); i < high; i++) {
        uintptr_t from = atomic_load(&holes[i].start);
        if (from && holes[i].aside && from < stop && start < holes[i].stop)
            put_back(&holes[i]);
    }
    memprot_hole_unlock();
}
