// Records taken over by Python.
#pragma once

#include "binding.h"

#include <stdbool.h>

/// The class that a handler sets as a thread's pending exception. Set once, before any fault is delivered; references
/// to it are paid for in advance, because a handler without the interpreter must not count references.
extern PyObject *memprot_claim_class;

/// Takes back the delivery that is under way to the calling thread, which holds the interpreter.
/// @return whether there was one.
bool memprot_claim_withdraw(void);

/// Which records are taken over.
enum memprot_claim {
    MEMPROT_CLAIM_HERE,      // what may be raised in the code that is running: its thread's, and its scopes'
    MEMPROT_CLAIM_STRAY,     // the calling thread's own that may not, and that no scope will raise
    MEMPROT_CLAIM_SCOPE,     // HERE, without the other scopes' but with what belongs to nobody any more
    MEMPROT_CLAIM_LISTENERS, // what nobody raises: it is only told
    MEMPROT_CLAIM_ALL,
};

/// Takes records over. Where a policy asks for a decision, it is asked for here, and Python runs.
/// @param scope the number of the scope for MEMPROT_CLAIM_SCOPE; else 0.
/// @return a new list, oldest first, of rows and of exceptions where a decision was to raise; or NULL with an exception
/// set.
PyObject *memprot_claim(enum memprot_claim which, int scope);

/// Whether there are such records.
/// @return 1, 0 or -1 with an exception set.
int memprot_claim_is_waiting(enum memprot_claim which, int scope);

/// @return a new exception instance that stands for such a list, which is not empty; NULL with an exception set.
PyObject *memprot_claim_error(PyObject *records);
