// Python stacks as text in a record, since code objects may be gone when somebody reads it.
#pragma once

#include "interpreter.h"

#include "record.h"

/// Writes the stack of a thread that stands still to the record's text. May run in a signal handler.
void memprot_describe_thread(struct memprot_record *record, PyThreadState *thread);

/// Counts the Python frames of a thread that stands still. May run in a signal handler.
void memprot_describe_depth(struct memprot_record *record, PyThreadState *thread);

/// Writes a stack of the depot to the record's text. May run in a signal handler.
void memprot_describe_stack(struct memprot_record *record, uint32_t stack);
