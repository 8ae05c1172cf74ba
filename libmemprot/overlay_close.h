// Taking back what was let through.
#pragma once

#include "overlay.h"

/// Closes those of the pages that are open. May run in a signal handler.
/// @return 0, or -1 with errno set: the pages then stay open.
int memprot_overlay_close(struct memprot_overlay *overlay, size_t first, size_t count);

/// The same, but what was written to those that were opened undecided stays.
/// @return 0, or -1 with errno set when it cannot, because the file beneath may not be written: the pages are closed
/// all the same.
int memprot_overlay_keep(struct memprot_overlay *overlay, size_t first, size_t count);

/// Maps what is given over pages. May run in a signal handler.
/// @return 0, or -1 with errno set.
int memprot_overlay_lay(struct memprot_overlay *overlay, size_t first, size_t count, int prot, int flags, int fd,
                        int key);
