// Who keeps the fault handlers installed: every region, guard, scope and policy that relies on them.
#pragma once

#include "binding.h"

/// Installs the handlers, or moves them to the top, and counts one more user.
/// @return 0, or -1 with OSError set and nothing counted.
int memprot_engine_acquire(void);

/// One user fewer; the last one takes the handlers down.
void memprot_engine_release(void);
