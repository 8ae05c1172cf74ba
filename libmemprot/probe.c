#include "probe.h"

#include "page.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

// Above the addresses of programs on any number of levels, below the bits that the kernel takes for a tag.
#ifdef __aarch64__
static const uintptr_t nowhere = 1UL << 55;
#else
static const uintptr_t nowhere = 1UL << 56;
#endif

// May run in a signal handler.
static long move(uintptr_t from, unsigned long flags, uintptr_t to) {
    size_t size = memprot_page_size();
    return syscall(SYS_mremap, from, size, size, flags, to);
}

// May run in a signal handler.
int memprot_seems_sealed(uintptr_t page) {
    if (move(page, 0, 0) != -1)
        return 0;
    return errno == EPERM ? 1 : -1;
}

// May run in a signal handler. A kernel that looks at the place before it looks at the number says EFAULT to
// a move onto itself as well, and then its answers say nothing about the number.
static int counts_first(void) {
    enum { UNKNOWN, YES, NO };
    static atomic_int answer;
    if (atomic_load(&answer) == UNKNOWN) {
        int yes = move(nowhere, MREMAP_MAYMOVE | MREMAP_FIXED, nowhere) == -1 && errno == EINVAL;
        atomic_store(&answer, yes ? YES : NO);
    }
    return atomic_load(&answer) == YES;
}

// May run in a signal handler.
int memprot_near_mapping_limit(void) {
    if (move(nowhere, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0) == -1 && errno == EFAULT)
        return !counts_first();
    return 1;
}
