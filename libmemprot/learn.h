// Keeping what an overlay remembers of its pages true: others may have changed their protection by calls of their own.
#pragma once

#include "overlay.h"

/// Asks the kernel for the protection of pages that the caller has made busy and that are not open, and remembers it.
/// Where nobody can be asked (no descriptor, a kernel without the question), what was remembered stays.
/// @return false when something of it is not mapped. May run in a signal handler.
bool memprot_learn_pages(struct memprot_overlay *overlay, size_t first, size_t count);

/// The protection that the kernel has for a page at this moment, open or not.
/// @return false when nobody can be asked, or nothing is mapped there. May run in a signal handler.
bool memprot_learn_now(const struct memprot_overlay *overlay, size_t page, uint8_t *ret);
