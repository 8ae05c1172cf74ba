// Putting bytes back on private pages that may not be written.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// Writes @p length bytes of @p from to the pages at @p start, which nobody may write now, and gives them their
/// protection and key; a key of 0 or MEMPROT_NO_KEY is one that they have already, as they have the protection then.
/// @return 0, or -1 with errno set. May run in a signal handler.
int memprot_write_back(uintptr_t start, const char *from, size_t length, uint8_t prot, int key);

/// Closes the descriptor through which that is done: after a fork it speaks of the parent's memory, and without
/// overlays nobody needs it. It is opened again when it is.
void memprot_write_back_close_descriptor(void);
