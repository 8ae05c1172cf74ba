// Whose block an address in a guard, or in freed memory, belongs to.
#pragma once

#include "block.h"

/// What an address belongs to that lies in a guard, or in a block that was freed: the nearest live block, or a freed
/// one where none is. May run in a signal handler.
/// @return false when there is neither.
bool memprot_guard_block_near(uintptr_t address, struct memprot_block *ret);
