// Accesses that the kernel makes for the program: a call that is given protected memory fails with EFAULT, or moves
// fewer bytes than it could, and no signal says so.
#pragma once

#include "record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/// A call that has returned.
struct memprot_transfer {
    const char *call;           // its name
    enum memprot_access access; // of the kernel to the program's memory
    const struct iovec *parts;  // of the memory; where the call failed they need not be readable
    size_t count;
    bool parts_are_ours; // and are
    ssize_t done;        // bytes; below 0: none
    bool failed;         // with EFAULT; otherwise it fell short
    int fd;              // -1: there is none
    off_t offset;        // in the file; below 0: the call has moved the file's own
    uintptr_t caller;    // where in the program it returns to
};

/// Whether memory of memprot's is why the call failed, or fell short; if so, it is recorded and delivered as a fault.
/// Nothing of the call is changed. May run in a signal handler.
void memprot_kernel_access_judge(const struct memprot_transfer *transfer);
