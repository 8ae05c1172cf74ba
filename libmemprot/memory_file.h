// Files that live in memory only.
#pragma once

#include <stddef.h>

/// Opens a new file that is in memory, without a name in any file system, and closed by execve(2).
/// @param[in] name shown in /proc/PID/maps where the kernel has memfd_create(2).
/// @param length its bytes, all zero.
/// @return a descriptor, or -1 with errno set. May run in a signal handler.
int memprot_memory_file_open(const char *name, size_t length);
