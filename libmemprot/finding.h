// What is found to be wrong without a signal: it is recorded, ruled upon and told as a fault is.
#pragma once

#include "record.h"

struct memprot_discovery {
    enum memprot_finding what;
    uintptr_t address; // that was freed, or the first byte that was overwritten
    size_t size;       // of what was overwritten, in bytes
    const unsigned char *bytes;
    uintptr_t caller; // where the call returns to in which it was found
    struct memprot_overlay *overlay;
    struct memprot_block block;
};

/// Tells it. Where the policy is to die, the process dies of SIGABRT and this does not return.
void memprot_finding_tell(const struct memprot_discovery *found);
