// Facts from the texts of /proc/PID, found without any allocation: the texts may be long, and memory short.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// Enough for every flag of a mapping.
enum { MEMPROT_FLAGS_SIZE = 256 };

/// Count the mappings that a limit counts, which [vsyscall] is none of.
/// @param[in] fd an open /proc/PID/maps, read from its beginning.
/// @return 0, or -1 with errno set by read(2). Runs in a forked child.
int memprot_count_mappings(int fd, size_t *ret);

/// The flags of the mapping that holds an address, two letters each, as VmFlags in proc_pid_smaps(5) has them, and
/// the size of its pages.
///
/// The kernel walks the pages of every mapping up to that one: where much is mapped it takes a while.
///
/// @param[in] fd an open /proc/PID/smaps, read from its beginning.
/// @param[out] page_size in bytes.
/// @param[out] ret MEMPROT_FLAGS_SIZE bytes; ends with a zero byte.
/// @return 1 found, 0 no mapping there or no such line, -1 with errno set by read(2). Runs in a forked child.
int memprot_mapping_flags(int fd, uint64_t address, size_t *page_size, char *ret);
