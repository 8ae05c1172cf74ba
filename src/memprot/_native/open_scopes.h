// The scopes that there are, by their numbers: other threads may have something for one of them.
#pragma once

#include "binding.h"

#include "policy.h"

#include <stdbool.h>

typedef struct Scope {
    PyObject_HEAD struct memprot_scope *core; // what handlers know of it
    PyObject *faults;                         // list; NULL until there is one. Under the lock of open_scopes.c
    PyObject *context;                        // held while it is open, so that its address stands for nothing else
    PyObject *raised_in_vain;                 // a fault that was raised where nothing can be raised, or NULL
    PyObject *given;                          // the policy, as it was given
    enum memprot_policy policy;
    bool open;
} Scope;

void memprot_open_scopes_add(Scope *scope);
void memprot_open_scopes_remove(Scope *scope);

/// The innermost open scope of the code that is running, borrowed; NULL for none.
Scope *memprot_open_scopes_here(void);

/// Has a scope remember a fault.
/// @return 0, or -1 with a Python exception set.
int memprot_open_scopes_remember(Scope *scope, PyObject *error);

/// @return a new tuple of what it remembers, or NULL with a Python exception set.
PyObject *memprot_open_scopes_faults(Scope *scope);

/// Takes what it remembers away from it.
void memprot_open_scopes_swap_faults(Scope *scope, PyObject **faults);
