// Pages whose every access faults, by the kernel's own guards where it has them.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// What an overlay of guards knows of a page as its protection: a guard as they are installed here, or memory between
/// guards that is forbidden by its protection for a while.
enum { MEMPROT_GUARD_PAGE = 0, MEMPROT_FORBIDDEN_PAGE = 1 };

/// Whether guards are installed by madvise (true) or by mprotect, found by trying once.
bool memprot_guard_pages_by_madvise(void);

/// Whether they are installed by mprotect, as far as that has been tried. May run in a signal handler.
bool memprot_guard_pages_are_protections(void);

/// Makes [start, start + length) a guard, discarding its content.
/// @return 0, or -1 with errno set. May run in a signal handler.
int memprot_guard_pages_install(uintptr_t start, size_t length);

/// Makes a guard readable and writable memory, all zeros.
/// @return 0, or -1 with errno set. May run in a signal handler.
int memprot_guard_pages_remove(uintptr_t start, size_t length);
