#include "calls.h"

#include <sys/syscall.h>
#include <unistd.h>

// May run in a signal handler.
uintptr_t memprot_mmap(uintptr_t address, size_t length, unsigned long prot, unsigned long flags, unsigned long fd,
                       uint64_t offset) {
    return (uintptr_t)syscall(SYS_mmap, address, length, prot, flags, fd, offset);
}

// May run in a signal handler.
int memprot_munmap(uintptr_t address, size_t length) { return (int)syscall(SYS_munmap, address, length); }

// May run in a signal handler.
int memprot_madvise(uintptr_t address, size_t length, unsigned long advice) {
    return (int)syscall(SYS_madvise, address, length, advice);
}

// May run in a signal handler.
int memprot_memfd_create(const char *name, unsigned long flags) { return (int)syscall(SYS_memfd_create, name, flags); }
