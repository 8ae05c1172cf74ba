// The memory system calls, each exactly as the kernel takes it: no rounding, no truncation, no retry.
// Every argument is a whole register, so that what the kernel refuses is refused by the kernel.
#pragma once

#include "syscall.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

/// mprotect(2). @return 0, or -1 with errno set. May run in a signal handler.
static inline int memprot_mprotect(uintptr_t address, size_t length, unsigned long prot) {
    // May run in a signal handler.
    long result = memprot_syscall3(SYS_mprotect, address, length, prot);
    if (result == 0)
        return 0;
    errno = (int)-result;
    return -1;
}

/// mmap(2).
/// @param[in] offset in bytes, a multiple of the page size.
/// @return the address, or MAP_FAILED as an integer (UINTPTR_MAX) with errno set. May run in a signal
/// handler.
uintptr_t memprot_mmap(uintptr_t address, size_t length, unsigned long prot, unsigned long flags, unsigned long fd,
                       uint64_t offset);

/// munmap(2). @return 0, or -1 with errno set. May run in a signal handler.
int memprot_munmap(uintptr_t address, size_t length);

/// madvise(2). @return 0, or -1 with errno set. May run in a signal handler.
int memprot_madvise(uintptr_t address, size_t length, unsigned long advice);

/// memfd_create(2).
/// @param[in] name ends with a zero byte; shown as `/memfd:name` in /proc/PID/maps.
/// @return the descriptor, or -1 with errno set. May run in a signal handler.
int memprot_memfd_create(const char *name, unsigned long flags);
