// The protection keys of pages, and one of memprot's own: under it lie pages that are open for some threads and for no
// others.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// The key of a page whose protection permits reading, found by trying. May run in a signal handler.
int memprot_page_key(uintptr_t address);

/// Gives pages a protection and a key; without one (MEMPROT_NO_KEY, or 0 while memprot has none) they keep theirs.
/// @return 0, or -1 with errno set. May run in a signal handler.
int memprot_protect_under_key(uintptr_t start, size_t length, unsigned long prot, int key);

/// A key that no thread has rights to until it is given them, allocated when first asked for.
/// @return the key, or MEMPROT_NO_KEY with errno set. May run in a signal handler.
int memprot_own_key(void);

/// Whether @p key is that one. May run in a signal handler.
bool memprot_is_own_key(int key);

/// @p rights, as the register holds them, and all rights to the own key, if there is one. May run in a signal handler.
unsigned memprot_own_key_granted(unsigned rights);

/// Takes the rights to it from the calling thread.
void memprot_own_key_renounce(void);

/// Gives it back to the kernel; no memory may lie under it any more.
void memprot_own_key_free(void);
