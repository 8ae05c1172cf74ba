// Scopes, for those that deliver faults into them.
#pragma once

#include "binding.h"

/// The calling thread's faults as one new exception, which its innermost scope remembers.
/// @return NULL when there are none, or with a Python exception set.
PyObject *memprot_scope_take(void);
