// Scopes, for those that deliver faults into them.
#pragma once

#include "binding.h"

/// What may be raised in the code that is running, as one new exception, which its innermost scope remembers.
/// @return NULL when there is nothing, or with a Python exception set.
PyObject *memprot_scope_take(void);

/// Tells of the calling thread's faults that can be raised nowhere any more.
void memprot_scope_tell_strays(void);
