// Reading and writing memory that may not be there, by system calls: what is forbidden ends the copy and raises no
// signal, whoever handles or blocks signals.
//
// process_vm_readv(2) and process_vm_writev(2) move bytes between two sides. The remote side is looked up page by page
// and knows neither protection keys nor secret memory; the local side is touched as by any system call of the calling
// thread. So the memory in question is always the local side, and the remote one is a buffer of ours.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Copies @p length bytes from @p address to our own @p to, up to the first one that the calling thread may not read.
/// @param[out] done how many were copied.
/// @return 0 when all were, else -1 with errno set: EFAULT for what may not be read, anything else where the kernel
/// refuses such calls (seccomp). May run in a signal handler.
int memprot_kernel_read(void *to, uintptr_t address, size_t length, size_t *done);

/// The same from @p from to @p address. Never writes what the thread may not.
/// @param[out] unreadable set when it is @p from that ends the copy. May run in a signal handler.
int memprot_kernel_write(uintptr_t address, const void *from, size_t length, size_t *done, bool *unreadable);
