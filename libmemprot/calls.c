#include "calls.h"

#include <sys/syscall.h>
#include <unistd.h>

// May run in a signal handler.
int memprot_mprotect(uintptr_t address, size_t length, unsigned long prot) {
    return (int)syscall(SYS_mprotect, address, length, prot);
}
