// Who keeps the fault handlers installed: every region, guard, protection and policy that relies on
// them. Scopes do not: without memory of ours there is nothing to catch.
#pragma once

#include "binding.h"

/// Installs the handlers, or moves them to the top, and counts one more user.
/// @return 0, or -1 with OSError set and nothing counted.
int memprot_engine_acquire(void);

/// The same for those who come and go often: where the handlers are installed already, what may stand above them is not
/// looked at.
int memprot_engine_hold(void);

/// Moves the handlers, where there are any, to the top. Two system calls when that is where they are; none without
/// users.
/// @return 0, or -1 with OSError set.
int memprot_engine_look(void);

/// One user fewer; the last one takes the handlers down.
void memprot_engine_release(void);
