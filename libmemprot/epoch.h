// Waiting until no signal handler still uses what was just taken away (the scheme of the kernel's SRCU, two
// counters).
//
// Handlers enter and leave; a thread that frees something unpublishes it first and then calls
// memprot_epoch_wait. While threads fork, others wait at the door: the child would inherit pages and records that
// nobody is left to finish. So whoever changes these outside a handler enters as well.
#pragma once

/// Waits while other threads fork. A thread that is inside already, or forks itself, goes in at once.
/// @return the token to pass to memprot_epoch_leave. May run in a signal handler.
int memprot_epoch_enter(void);

/// May run in a signal handler.
void memprot_epoch_leave(int token);

/// Returns when every thread that had entered before the call has left. Never call it from inside.
void memprot_epoch_wait(void);

/// The forking thread's: on return it is alone inside. Any number of threads may fork at once.
void memprot_epoch_before_fork(void);
void memprot_epoch_after_fork_in_parent(void);

/// In the child only the calling thread exists, and it is in no handler.
void memprot_epoch_after_fork_in_child(void);
