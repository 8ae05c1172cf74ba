// A stack of its own for a thread's signal handlers, which need one when the thread's own stack is what ran out.
#pragma once

/// Gives the calling thread an alternate signal stack, unless it has one already, whoever gave it. It is taken back
/// when the thread ends; in a forked child those of the threads that are not there go with them.
/// @return 0, or -1 with errno set.
int memprot_alternate_stack_use(void);
