// The memory system calls, each exactly as the kernel takes it: no rounding, no truncation, no retry.
// Every argument is a whole register, so that what the kernel refuses is refused by the kernel.
#pragma once

#include "syscall.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

/// Any system call, by its number.
/// @return what it returns, -1 with errno set where it fails. May run in a signal handler.
long memprot_syscall(long number, const uint64_t words[6]);

/// mprotect(2). @return 0, or -1 with errno set. May run in a signal handler.
static inline int memprot_mprotect(uintptr_t address, size_t length, unsigned long prot) {
    // May run in a signal handler.
    long result = memprot_syscall3(SYS_mprotect, address, length, prot);
    if (result == 0)
        return 0;
    errno = (int)-result;
    return -1;
}
