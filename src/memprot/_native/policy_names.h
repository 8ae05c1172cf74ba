// The policies as Python names them.
#pragma once

#include "binding.h"

#include "policy.h"

/// A policy from its name, or from a callable that decides.
/// @return 0, or -1 with TypeError or ValueError set.
int memprot_policy_from(PyObject *object, enum memprot_policy *ret);
