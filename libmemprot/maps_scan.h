// One mapping out of the text of /proc/PID/maps, in a handler: without memory, and without the rest of the text.
#pragma once

#include "mapping.h"

/// The mapping that holds an address or, where none does, the first one above it.
/// @param[in] fd an open /proc/PID/maps, read from its beginning.
/// @param[out] path takes the path, cut off at @p capacity; with no room for it neither path nor kind is looked at.
/// @return 1 found, 0 nothing is mapped from there on, -1 with errno set by read(2), or EBADMSG for another text.
///         May run in a signal handler.
int memprot_maps_scan(int fd, uint64_t address, struct memprot_mapping *ret, char *path, size_t capacity);
