// Suppressions as text, for programs without an interpreter.
#pragma once

#include "suppression.h"

/// Reads what the launcher wrote: words that US (0x1f) separates, which are the number of suppressions, and for each
/// its kinds, its accesses, the number of its frames, and for each frame "*" for any number, or "-" and a word each for
/// library, function and file: "=" and the pattern, or nothing.
/// @param text is cut into words, and stays where it is.
/// @return NULL with errno set.
struct memprot_suppressions *memprot_suppressions_read(char *text);
