// Who keeps the fault handlers installed: every region, guard, protection and policy that relies on them. A scope keeps
// the one of SIGBUS alone: without memory of ours it answers for files that the program has mapped.
#pragma once

#include "binding.h"

/// Installs the handlers, or moves them to the top, and counts one more user.
/// @return 0, or -1 with OSError set and nothing counted.
int memprot_engine_acquire(void);

/// The same for those who come and go often: where the handlers are installed already, what may stand above them is not
/// looked at.
int memprot_engine_hold(void);

/// Has the calls that let the kernel use memory, and those that change handlers, watched in every loaded object. Cheap
/// when no object was loaded since.
void memprot_engine_watch_calls(void);

/// Moves the handlers, where there are any, to the top. Two system calls when that is where they are; none without
/// users.
/// @return 0, or -1 with OSError set.
int memprot_engine_look(void);

/// The same for a scope that begins, with what it needs when there are no users.
int memprot_engine_enter_scope(void);

/// One scope fewer.
void memprot_engine_leave_scope(void);

/// One user fewer; the last one takes the handlers down.
void memprot_engine_release(void);
