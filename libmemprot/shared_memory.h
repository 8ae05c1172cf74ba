// POSIX shared memory: files of a memory file system that programs find by name (shm_overview(7)).
#pragma once

/// shm_open(3): O_CLOEXEC and O_NOFOLLOW are added to the flags.
/// @param[in] name with or without slashes before it, and none in it.
/// @return the descriptor, or -1 with errno set.
int memprot_shm_open(const char *name, unsigned long flags, unsigned long mode);

/// shm_unlink(3). @return 0, or -1 with errno set.
int memprot_shm_unlink(const char *name);
