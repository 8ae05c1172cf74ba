// The mappings of the process itself, asked for through a descriptor that is kept.
//
// Opening the file costs six times what a question does. Whoever asks keeps the fault engine in use meanwhile: the
// last one to leave it closes the descriptor.
#pragma once

#include "mapping.h"

/// The mapping that holds an address, or else the first one behind it; path and kind are not looked at.
/// @return 1 found, 0 nothing is mapped from there on, -1 with errno set.
int memprot_own_maps_next(uint64_t address, struct memprot_mapping *ret);

/// Closes the descriptor; the next question opens another one. After a fork it speaks of the parent.
void memprot_own_maps_close(void);
