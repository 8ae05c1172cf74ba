// Waiting until no signal handler still uses what was just taken away (the scheme of the kernel's SRCU, two
// counters).
//
// Handlers enter and leave; a thread that frees something unpublishes it first and then calls
// memprot_epoch_wait.
#pragma once

/// @return the token to pass to memprot_epoch_leave. May run in a signal handler.
int memprot_epoch_enter(void);

/// May run in a signal handler.
void memprot_epoch_leave(int token);

/// Returns when every handler that had entered before the call has left. Never call it from a handler.
void memprot_epoch_wait(void);

/// In the child of a fork only the calling thread exists, and it is in no handler.
void memprot_epoch_after_fork(void);
