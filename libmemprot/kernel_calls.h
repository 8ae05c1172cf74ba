// The functions of the C library that have the kernel read or write the caller's memory, watched where objects import
// them.
//
// Not seen: calls inside the C library and inside a program that contains it, functions found by dlsym(3), syscall(2),
// io_uring(7).
#pragma once

#include <stdbool.h>

/// Has every loaded object's calls pass by here, from now on until the process ends; those of objects loaded later,
/// when it is called again. Not for signal handlers.
void memprot_kernel_calls_watch(void);

/// Whether no object was loaded since. Takes some 20 ns. Not for signal handlers.
bool memprot_kernel_calls_are_watched(void);
