#include "forbidden.h"

#include "guard.h"
#include "kernel_copy.h"
#include "own_maps.h"
#include "page.h"
#include "ranges.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

// Pages that permit an access by their protection are asked one by one whether it succeeds; not without end.
enum { MOST_ASKED = 1024 };

// May run in a signal handler.
static size_t page_of(const struct memprot_overlay *overlay, uintptr_t address) {
    return (address - overlay->start) / memprot_page_size();
}

// May run in a signal handler.
static uint8_t state_of(const struct memprot_overlay *overlay, uintptr_t address) {
    return atomic_load_explicit(&overlay->state[page_of(overlay, address)], memory_order_acquire);
}

// The data between a pool's guards is not the pool's to open, but it may have been protected by itself. May run in a
// signal handler.
struct memprot_overlay *memprot_overlay_at(uintptr_t address) {
    struct memprot_overlay *pool = memprot_guard_overlay_at(address);
    if (pool && state_of(pool, address) != MEMPROT_PAGE_FOREIGN)
        return pool;
    struct memprot_overlay *overlay = memprot_ranges_find(address);
    return overlay ? overlay : pool;
}

// Where the next memory begins that could be memprot's, behind an address that is not. May run in a signal handler.
static uintptr_t skip(uintptr_t address) {
    uintptr_t from, to, next = (address | (MEMPROT_GUARD_UNIT - 1)) + 1;
    if (memprot_ranges_next(address, &from, &to) && from > address && from < next)
        next = from;
    return next;
}

// Behind a page between the guards of a pool: the data of a block. May run in a signal handler.
static uintptr_t skip_data(const struct memprot_overlay *pool, uintptr_t address, uintptr_t stop) {
    uintptr_t next = skip(address), end = pool->start + pool->pages * memprot_page_size();
    if (stop < end)
        end = stop;
    if (next < end)
        end = next;
    while (address < end && state_of(pool, address) == MEMPROT_PAGE_FOREIGN)
        address = memprot_page_floor(address) + memprot_page_size();
    return address;
}

// Looks at the mapping that holds an address of the overlay: *next is where it ends, *file whether it has one. May run
// in a signal handler.
static bool protection_forbids(const struct memprot_overlay *overlay, uintptr_t address, bool write, uintptr_t *next,
                               bool *file) {
    uintptr_t end = overlay->start + overlay->pages * memprot_page_size();
    struct memprot_mapping found;
    *file = false;
    int answer = memprot_own_maps_ask(address, &found);
    if (answer < 0) { // the kernel does not say: what was remembered of the page
        *next = memprot_page_floor(address) + memprot_page_size();
        return state_of(overlay, address) == MEMPROT_PAGE_REAL &&
               !(overlay->prot[page_of(overlay, address)] & (write ? PROT_WRITE : PROT_READ));
    }
    if (answer == 0 || found.start > address) { // others have unmapped it
        *next = answer == 0 || found.start > end ? end : found.start;
        return false;
    }
    *next = found.stop < end ? found.stop : end;
    *file = found.inode != 0;
    return !(found.prot & (write ? PROT_WRITE : PROT_READ));
}

// May run in a signal handler.
static bool has_bytes(uintptr_t address) {
    char byte;
    size_t done;
    return memprot_kernel_read(&byte, address, 1, &done) == 0;
}

// Whether what the protection permits fails nevertheless: nothing but reading is tried. May run in a signal handler.
static bool find_without_bytes(uintptr_t start, uintptr_t stop, uintptr_t *ret) {
    for (int asked = 0; start < stop && asked < MOST_ASKED; asked++) {
        if (!has_bytes(start)) {
            *ret = start;
            return true;
        }
        start = memprot_page_floor(start) + memprot_page_size();
    }
    return false;
}

// May run in a signal handler.
bool memprot_forbidden_is_possible(uintptr_t start, uintptr_t stop) {
    for (uintptr_t address = start; address < stop && address >= start; address = skip(address)) {
        if (memprot_overlay_at(address))
            return true;
    }
    return false;
}

// May run in a signal handler.
bool memprot_forbidden_find(uintptr_t start, uintptr_t stop, bool write, struct memprot_forbidden *ret) {
    for (uintptr_t address = start, next; address < stop && address >= start; address = next) {
        struct memprot_overlay *overlay = memprot_overlay_at(address);
        bool forbidden = false, file = false;
        if (!overlay) {
            next = skip(address);
        } else if (overlay->backing == MEMPROT_BACKING_GUARD) {
            uint8_t state = state_of(overlay, address);
            forbidden = state == MEMPROT_PAGE_REAL;
            next = state == MEMPROT_PAGE_FOREIGN ? skip_data(overlay, address, stop)
                                                 : memprot_page_floor(address) + memprot_page_size();
        } else {
            forbidden = protection_forbids(overlay, address, write, &next, &file);
        }
        *ret = (struct memprot_forbidden){address, overlay, SIGSEGV};
        if (forbidden)
            return true;
        ret->signal = SIGBUS;
        if (file && find_without_bytes(address, next < stop ? next : stop, &ret->address))
            return true;
    }
    return false;
}
