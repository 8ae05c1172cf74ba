// The mappings of a process, read from its /proc/PID/maps.
#pragma once

#include "mapping.h"

/// One reading of an address space; owns the mappings and their paths.
struct memprot_maps {
    struct memprot_mapping *mappings;
    size_t count, capacity;
    struct memprot_path_block *paths;
};

void memprot_maps_init(struct memprot_maps *ret);
void memprot_maps_deinit(struct memprot_maps *maps);

/// Read every mapping from an open /proc/PID/maps, in the order of their addresses and without overlaps.
///
/// The kernel writes the text a page at a time, and other threads map and unmap in between: a reading with
/// overlapping lines is thrown away and tried again; after a few of those the overlaps are clipped.
///
/// @param[in] fd is read from its beginning, whatever its position.
/// @param[out] ret initialised; holds what was read, also on failure.
/// @return 0, or -1 with errno set: ESRCH when the address space is gone (the process exited or called
/// execve),
///         EBADMSG when the text is not of the form proc_pid_maps(5) describes, ENOMEM, or what read(2) sets.
int memprot_maps_read(int fd, struct memprot_maps *ret);

/// The same for a text that was saved earlier: overlapping lines are clipped, those out of order left out.
/// @param[out] line the number of the last line looked at, from 1; on EBADMSG the one that is wrong.
int memprot_maps_parse(const char *text, size_t length, struct memprot_maps *ret, size_t *line);

/// The mapping that holds an address, or NULL, by bisection.
const struct memprot_mapping *memprot_maps_at(const struct memprot_maps *maps, uint64_t address);

/// The mapping that holds an address, as memprot_maps_read would give it: by question, otherwise by the text.
///
/// @param[out] maps initialised; owns what ret points to, and may hold more than that.
/// @param[out] ret NULL when no mapping holds the address.
/// @return 0, or -1 with errno set as memprot_maps_read does.
int memprot_maps_find(int fd, uint64_t address, struct memprot_maps *maps, const struct memprot_mapping **ret);

/// The mapping that holds an address or, where none does, the first one above it; NULL: none, by bisection.
const struct memprot_mapping *memprot_maps_next(const struct memprot_maps *maps, uint64_t address);

/// The same by question, otherwise by the text; without the gate page [vsyscall], which belongs to the kernel.
///
/// @param[out] maps as for memprot_maps_find.
/// @param[out] ret NULL when nothing is mapped there or above.
/// @return 0, or -1 with errno set as memprot_maps_read does.
int memprot_maps_find_next(int fd, uint64_t address, struct memprot_maps *maps, const struct memprot_mapping **ret);
