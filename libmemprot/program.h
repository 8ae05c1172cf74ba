// A program without an interpreter: who tells of its faults, and what it leaves behind when it ends.
#pragma once

#include "suppression.h"

#include <stdbool.h>

/// Starts the fault engine for a program that was started by `memprot run`. What is told is told by the reporter
/// process.
/// @param activation what the launcher left in the environment: words that US (0x1f) separates, which are the process
/// that was launched, what happens to faults ("raise", "log" or "abort"), what status 0 becomes when one was seen,
/// "1" for no summary, the document's path or nothing, and the reporter's command line.
/// @param environment of the reporter, which stays where it is for good.
/// @return 0, or -1 with errno set.
int memprot_program_start(const char *activation, char **environment);

/// Has faults that the program survives suppressed, and counted; before or after the start. They stay.
void memprot_program_suppress(struct memprot_suppressions *suppressions);

/// Whether memprot_program_start() has started it in this process, or in the one it was forked from. The child of a
/// vfork(2), which uses its parent's memory, is neither. May run in a signal handler.
bool memprot_program_is_here(void);

/// Leaves the summary and the document; for those who end the process by _exit(2) or quick_exit(3). Once only.
/// @return what the process is to end with. May run in a signal handler.
int memprot_program_leave(int status);

/// Gives pages that were let through their protection again. To be called now and then, by whoever allocates.
void memprot_program_settle(void);
