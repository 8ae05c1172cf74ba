// The memory system calls, each exactly as the kernel takes it: no rounding, no truncation, no retry.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// @return 0, or -1 with errno set. May run in a signal handler.
int memprot_mprotect(uintptr_t address, size_t length, unsigned long prot);
