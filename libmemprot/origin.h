// Where a block comes from, or goes to.
#pragma once

#include "guard.h"
#include "native_stacks.h"

/// Fills in the calling thread and its stacks. Not for signal handlers.
void memprot_origin_capture(const struct memprot_caller *caller, struct memprot_origin *ret);

/// Who numbers the calling thread's Python stack, 0 where it runs none; NULL for nobody. It is called wherever memory
/// is allocated, and must not allocate any itself.
void memprot_origin_set_python(uint32_t (*stack)(void));
