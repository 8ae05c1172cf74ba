// A decoy over shared memory whose file we do not have: the mapping is duplicated aside, and the duplicate put back.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Makes a second mapping of shared pages at @p aside, and lays a private copy of them, or zeros, over the first.
/// @param[in] prot the pages' own, which the duplicate keeps, as it keeps their key.
/// @param[in] key of the copy; 0 or less for none.
/// @param[out] opened gets what the copy holds; NULL where nobody wants it.
/// @return 0, or -1 with errno set and the pages as they were. May run in a signal handler.
int memprot_duplicate_replace(uintptr_t start, char *aside, size_t length, uint8_t prot, int key, bool zero,
                              char *opened);

/// Puts a mapping of the duplicate in the copy's place, and reserves the duplicate's own place again.
/// @return 0, or -1 with errno set. May run in a signal handler.
int memprot_duplicate_restore(uintptr_t start, char *aside, size_t length);
