#include "guard_pages.h"

#include "calls.h"
#include "kernel_abi.h"
#include "page.h"

#include <stdatomic.h>
#include <sys/mman.h>

// 0 unknown, 1 madvise, 2 mprotect. Written once by whoever asks first; every writer stores the same value.
static atomic_int means_found;

bool memprot_guard_pages_by_madvise(void) {
    int means = atomic_load_explicit(&means_found, memory_order_relaxed);
    if (means == 0) {
        size_t size = memprot_page_size();
        void *trial = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (trial == MAP_FAILED)
            return true; // undecided: there is no memory for the trial now, and none for a guard either
        means = madvise(trial, size, MADV_GUARD_INSTALL) == 0 ? 1 : 2;
        munmap(trial, size);
        atomic_store_explicit(&means_found, means, memory_order_relaxed);
    }
    return means == 1;
}

// May run in a signal handler.
bool memprot_guard_pages_are_protections(void) { return atomic_load_explicit(&means_found, memory_order_relaxed) == 2; }

// May run in a signal handler.
int memprot_guard_pages_install(uintptr_t start, size_t length) {
    if (!memprot_guard_pages_are_protections())
        return madvise((void *)start, length, MADV_GUARD_INSTALL);
    if (memprot_mprotect(start, length, PROT_NONE) < 0)
        return -1;
    return madvise((void *)start, length, MADV_DONTNEED);
}

// May run in a signal handler.
int memprot_guard_pages_remove(uintptr_t start, size_t length) {
    if (!memprot_guard_pages_are_protections())
        return madvise((void *)start, length, MADV_GUARD_REMOVE);
    return memprot_mprotect(start, length, PROT_READ | PROT_WRITE);
}
