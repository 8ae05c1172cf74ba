// Asking for the mapping of one address.
#pragma once

#include "mapping.h"

/// PATH_MAX, the most that memprot_maps_query writes.
enum { MEMPROT_NAME_SIZE = 4096 };

/// Ask the kernel for the mapping that holds an address (PROCMAP_QUERY, Linux 6.11): no text is read.
///
/// The gate page [vsyscall] stands in the text but is unknown to this question; memprot_maps_find knows it.
///
/// @param[out] path takes the path of the mapping; ret->path points into it.
/// @return 1 found, 0 no mapping there, -1 with errno set: ENOTTY where the kernel lacks the question,
///         ENAMETOOLONG when capacity is too small, ESRCH when the address space is gone.
///         May run in a signal handler.
int memprot_maps_query(int fd, uint64_t address, struct memprot_mapping *ret, char *path, size_t capacity);

/// The same for the mapping that holds an address or, where none does, the first one above it. With no room for a path
/// neither path nor kind is looked at, which cost more than the rest.
///         May run in a signal handler.
int memprot_maps_query_next(int fd, uint64_t address, struct memprot_mapping *ret, char *path, size_t capacity);
