// Faults that were raised where nothing can be raised.
#pragma once

#include "open_scopes.h"

/// Puts our hook for what cannot be raised before the one that is there, unless it is ours.
/// @return 0, or -1 with a Python exception set.
int memprot_unraised_arm(void);

/// Puts that one back when no scope is open any more.
/// @return 0, or -1 with a Python exception set.
int memprot_unraised_disarm(void);

/// Whether ours is there by our doing.
bool memprot_unraised_is_armed(void);

/// Puts the fault that the scope could not raise earlier in front of @p error, which is taken over.
/// @param scope NULL for none.
/// @return a new reference; NULL when there is neither.
PyObject *memprot_unraised_join(Scope *scope, PyObject *error);
