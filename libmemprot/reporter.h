// The reporter: a process of its own that makes sense of what another one knows of its faults.
#pragma once

#include "output.h"
#include "record.h"

#include <stdbool.h>
#include <ucontext.h>

/// Names the reporter: a program with its arguments and environment, which stay where they are for good. It finds what
/// memprot_evidence_put writes on its standard input.
void memprot_reporter_set(char **argv, char **environment);

/// Has the reporter write to this descriptor, where the program puts something else in the place of its standard error.
void memprot_reporter_write_to(int fd);

/// Writes what the reporter is to know. Called in signal handlers.
typedef void memprot_reporter_writer(struct output *out, const void *closure);

/// Hands something to the reporter, and waits until it is done with it. May run in a signal handler.
bool memprot_reporter_hand(memprot_reporter_writer *write, const void *closure);

/// Has the reporter tell of a fault, and waits for it.
/// @param context as memprot_evidence_put takes it.
/// @return whether it was told. May run in a signal handler.
bool memprot_reporter_tell(const struct memprot_record *record, const ucontext_t *context);

/// The last word of a process that dies of a fault: by the reporter, where one was named; otherwise, for memory that
/// memprot owns, in a few lines on standard error. Returns when that is done. May run in a signal handler.
/// @param record NULL when all are in use; nothing is told then.
/// @param owned memprot answers for the memory.
void memprot_reporter_tell_death(const struct memprot_record *record, bool owned, const ucontext_t *context);
