// The functions of the C library that have the kernel read or write the caller's memory, watched where objects import
// them.
//
// Not seen: calls inside the C library and inside a program that contains it, functions found by dlsym(3), syscall(2),
// io_uring(7).
#pragma once

#include <stdbool.h>

/// Has every loaded object's calls pass by here, from now on until the process ends; those of objects loaded later,
/// when it is called again. Waits for the dynamic linker's lock. Not for signal handlers.
void memprot_kernel_calls_watch(void);

/// Whether no object has begun to be loaded for some calls of the above; without a lock. May run in a signal handler.
bool memprot_kernel_calls_are_watched(void);
