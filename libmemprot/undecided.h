// Shared memory whose decoys may become the truth: what was written is found by comparing, so that what other processes
// wrote meanwhile stays.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Lays private pages with the content of a file over shared ones of that file.
/// @param[out] opened gets the same content, for memprot_undecided_keep. May run in a signal handler.
/// @return 0, or -1 with errno set and nothing changed.
int memprot_undecided_lay_over(uintptr_t start, char *opened, size_t length, uint8_t prot, int key, int fd,
                               off_t offset);

/// Writes what differs between the pages and what they were when they were opened to a file.
/// @return 0, or -1 with errno set: the file may not be written, or has become shorter. May run in a signal handler.
int memprot_undecided_keep(uintptr_t start, const char *opened, size_t length, int fd, off_t offset);

/// The same for a duplicate of the memory, which has its protection and gets it back. May run in a signal handler.
int memprot_undecided_keep_aside(uintptr_t start, const char *opened, size_t length, char *aside, uint8_t prot);
