// Where a fault happened, and where it may be raised: an event loop runs the code of many tasks in one thread, and a
// fault of one of them is no business of the loop or of another one.
#pragma once

#include "binding.h"

#include "record.h"

#include <stdbool.h>

struct memprot_place {
    int thread;
    uintptr_t context;
    enum {
        MEMPROT_WITHOUT_LOOP, ///< no asyncio loop runs in this thread
        MEMPROT_IN_TASK,      ///< a task's own code does
        MEMPROT_IN_CALLBACK,  ///< what runs is no task's: the loop's own code, or a function that it calls
        MEMPROT_AROUND_TASK,  ///< the loop's own code is called on behalf of a task that ends or pauses
    } code;
};

/// Where the calling thread is now.
/// @return 0, or -1 with a Python exception set.
int memprot_place_look(struct memprot_place *ret);

/// Whether what the calling thread did in the record is for the code to know that is running now.
bool memprot_place_is_of(const struct memprot_place *place, const struct memprot_record *record);
