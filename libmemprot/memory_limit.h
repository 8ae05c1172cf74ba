// How much memory the process may have.
#pragma once

#include <stdint.h>

/// The machine's memory in bytes, or the limit of the memory cgroup that the process is in, or of one above it, where
/// that is less and can be read.
uint64_t memprot_memory_limit(void);

/// The machine's memory in bytes.
uint64_t memprot_machine_memory(void);
