// Which blocks are guarded, and how: from the environment for programs that know nothing of memprot, or from the
// binding.
#pragma once

#include "guard.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct memprot_malloc_settings {
    _Atomic uint32_t sample; // one block of so many is guarded; 0 guards none
    _Atomic(enum memprot_side) side;
    atomic_size_t align;
};
extern struct memprot_malloc_settings memprot_malloc_settings;

/// Guards from now on one block of @p sample, 0 for none. Looked up by name by those who may run without this library.
__attribute__((visibility("default"))) void memprot_malloc_configure(uint32_t sample, enum memprot_side side,
                                                                     size_t align);

/// How many blocks were not guarded because others were the sample; by name, too.
__attribute__((visibility("default"))) uint64_t memprot_malloc_sampled_out(void);

/// Reads words such as "sample=1 side=right align=16 quarantine=0", in any order, each of them optional.
/// @return the first word that makes no sense, or NULL when all was taken over. Calls nothing that allocates.
const char *memprot_malloc_settings_read(const char *words);
