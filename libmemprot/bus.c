#include "bus.h"

#include "access.h"
#include "own_maps.h"
#include "page.h"
#include "query.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// Under the lock of the holes.
static char path[MEMPROT_NAME_SIZE];

struct extent {
    uintptr_t start, stop;
};

// May run in a signal handler.
bool memprot_bus_is_early(const siginfo_t *info) { return info->si_signo == SIGBUS && info->si_code == BUS_MCEERR_AO; }

// May run in a signal handler.
static bool is_broken_memory(const siginfo_t *info) { return info->si_code == BUS_MCEERR_AR; }

// A program, or a library: what it holds is code, and the data of that code. May run in a signal handler.
static bool is_mapped_as_code(const struct memprot_mapping *file) {
    struct memprot_mapping other;
    int answer = 0;
    for (uint64_t at = 0; (answer = memprot_own_maps_find(at, &other, NULL, 0)) == 1; at = other.stop) {
        if (other.inode == file->inode && other.device_major == file->device_major &&
            other.device_minor == file->device_minor && (other.prot & PROT_EXEC))
            return true;
    }
    return answer < 0;
}

// May run in a signal handler.
static bool is_plain_data(const struct memprot_mapping *mapping) {
    bool is_file = mapping->kind == MEMPROT_KIND_FILE || mapping->kind == MEMPROT_KIND_MEMFD ||
                   mapping->kind == MEMPROT_KIND_SHARED_MEMORY;
    return is_file && mapping->inode != 0 && !(mapping->prot & PROT_EXEC) && !is_mapped_as_code(mapping);
}

// How many bytes the file has; -1 when it cannot be found by its name. May run in a signal handler.
static int64_t size_of_file(const struct memprot_mapping *mapping) {
    struct statx found;
    int flags = AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
    if (!mapping->path || mapping->deleted ||
        syscall(SYS_statx, AT_FDCWD, mapping->path, flags, STATX_INO | STATX_SIZE, &found) < 0 ||
        found.stx_ino != mapping->inode || found.stx_dev_major != mapping->device_major ||
        found.stx_dev_minor != mapping->device_minor)
        return -1;
    return (int64_t)found.stx_size;
}

// May run in a signal handler.
static bool has_no_bytes(uintptr_t page) {
    return memprot_access_load(page) < 0 && memprot_access_last_failure()->signal == SIGBUS;
}

// Where in a mapping the pages behind the file's end begin; its stop when that is not known. May run in a signal
// handler.
static uintptr_t start_of_lost(const struct memprot_mapping *mapping) {
    int64_t reach = size_of_file(mapping);
    if (reach < 0)
        return mapping->stop;
    uint64_t end = memprot_page_ceil((uint64_t)reach);
    return mapping->start + (end > mapping->offset ? end - mapping->offset : 0);
}

// The page, and those beside it that cannot be given either. May run in a signal handler.
static struct extent extent_at(uintptr_t page, struct extent within, size_t window, int direction) {
    size_t size = memprot_page_size();
    struct extent extent = {page, page + size};
    for (size_t count = 1; count < window; count++) {
        uintptr_t next = direction > 0 ? extent.stop : extent.start - size;
        if (next < within.start || next >= within.stop || !has_no_bytes(next))
            break;
        *(direction > 0 ? &extent.stop : &extent.start) = direction > 0 ? next + size : next;
    }
    return extent;
}

// May run in a signal handler.
static struct extent overlap(struct extent one, struct extent other) {
    return (struct extent){one.start > other.start ? one.start : other.start,
                           one.stop < other.stop ? one.stop : other.stop};
}

// The page with the address, or as many as are broken with it. May run in a signal handler.
static struct extent broken_extent(const siginfo_t *info) {
    uintptr_t size = memprot_page_size(), address = (uintptr_t)info->si_addr;
    if (info->si_addr_lsb > 0 && info->si_addr_lsb < 48 && (uintptr_t)1 << info->si_addr_lsb > size)
        size = (uintptr_t)1 << info->si_addr_lsb;
    uintptr_t start = address & ~(size - 1);
    return (struct extent){start, start + size};
}

// Under the lock. May run in a signal handler.
static enum memprot_bus_opening open_around(const siginfo_t *info, bool write, const struct memprot_overlay *overlay,
                                            size_t window, int direction, struct memprot_hole **ret) {
    uintptr_t address = (uintptr_t)info->si_addr;
    struct memprot_mapping mapping;
    if (memprot_hole_covers(address))
        return MEMPROT_BUS_RETRY;
    if (memprot_own_maps_find(address, &mapping, path, sizeof path) != 1 || mapping.start > address ||
        (!overlay && !is_plain_data(&mapping)))
        return MEMPROT_BUS_REFUSED;
    struct extent within = {mapping.start, mapping.stop}, extent;
    if (overlay)
        within =
            overlap(within, (struct extent){overlay->start, overlay->start + overlay->pages * memprot_page_size()});
    uintptr_t page = memprot_page_floor(address),
              lost = is_broken_memory(info) ? mapping.stop : start_of_lost(&mapping);
    if (lost <= page) {
        extent = overlap(within, (struct extent){lost, mapping.stop});
        *ret = memprot_hole_open(extent.start, extent.stop, mapping.prot, false);
    }
    // Where there is no room for so much (a limit of the address space), for what is at hand.
    if (!*ret) {
        extent =
            is_broken_memory(info) ? overlap(broken_extent(info), within) : extent_at(page, within, window, direction);
        *ret = memprot_hole_open(extent.start, extent.stop, mapping.prot, write && lost > page);
    }
    return *ret ? MEMPROT_BUS_OPENED : MEMPROT_BUS_REFUSED;
}

// May run in a signal handler.
enum memprot_bus_opening memprot_bus_open(const siginfo_t *info, bool write, const struct memprot_overlay *overlay,
                                          size_t window, int direction, struct memprot_hole **ret) {
    *ret = NULL;
    if ((info->si_code != BUS_ADRERR && !is_broken_memory(info)) || !memprot_hole_lock())
        return MEMPROT_BUS_REFUSED;
    enum memprot_bus_opening opening = open_around(info, write, overlay, window, direction, ret);
    memprot_hole_unlock();
    return opening;
}

// May run in a signal handler.
enum memprot_bus_opening memprot_bus_open_blocked(uintptr_t address, struct memprot_hole **ret) {
    uintptr_t page = memprot_page_floor(address);
    *ret = NULL;
    if (!memprot_hole_lock())
        return MEMPROT_BUS_REFUSED;
    enum memprot_bus_opening opening = MEMPROT_BUS_RETRY;
    if (!memprot_hole_covers(address)) {
        *ret = memprot_hole_open(page, page + memprot_page_size(), PROT_READ | PROT_WRITE, false);
        opening = *ret ? MEMPROT_BUS_OPENED : MEMPROT_BUS_REFUSED;
    }
    memprot_hole_unlock();
    return opening;
}
