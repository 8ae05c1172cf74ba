// Telling each fault of a program once: those that are alike are counted.
#pragma once

#include "output.h"
#include "record.h"

/// Tells of a fault that the program survives, by the reporter, unless one that is alike was told already. May run in a
/// signal handler.
void memprot_telling_hear(const struct memprot_record *record);

/// How many faults were heard of, and how many were told. May run in a signal handler.
uint64_t memprot_telling_heard(void);
uint32_t memprot_telling_told(void);

/// How often each was heard of, in the order in which they were told: [2, 1]. May run in a signal handler.
void memprot_telling_put_counts(struct output *out);

/// In the child of a fork: nothing was heard of yet.
void memprot_telling_forget(void);
