// Where a fault happened, and where it may be raised: an event loop runs the code of many tasks in one thread, and a
// fault of one of them is no business of the loop or of another one.
#pragma once

#include "binding.h"

#include "record.h"

#include <stdbool.h>

struct memprot_place {
    int thread;
    uintptr_t context;
    bool in_loop; ///< an asyncio loop runs in this thread
    bool in_task; ///< and one of its tasks at this moment
};

/// Where the calling thread is now.
/// @return 0, or -1 with a Python exception set.
int memprot_place_look(struct memprot_place *ret);

/// Whether what the calling thread did in the record is for the code to know that is running now.
bool memprot_place_is_of(const struct memprot_place *place, const struct memprot_record *record);
