// The last words of a program without an interpreter.
#pragma once

#include "output.h"

/// One line: how many faults there were, and what was guarded. May run in a signal handler.
/// @param faults in all; @param distinct after folding those that are alike.
void memprot_summary_put(struct output *out, uint64_t faults, uint64_t distinct);
