// Who keeps the fault handlers installed: every region, guard, scope and policy that relies on them.
#pragma once

#include "binding.h"

/// Installs the handlers, or moves them to the top, and counts one more user.
/// @return 0, or -1 with OSError set and nothing counted.
int memprot_engine_acquire(void);

/// The same for those who come and go often: where the handlers are installed already, what may stand above them is not
/// looked at.
int memprot_engine_hold(void);

/// Has the calls that let the kernel use memory watched in every loaded object, where faults are recorded now. Cheap
/// when no object was loaded since.
void memprot_engine_watch_calls(void);

/// One user fewer; the last one takes the handlers down.
void memprot_engine_release(void);
