// The functions that loaded objects import from each other: where a call through an object's linkage table leads can
// be changed, for all objects at once.
//
// A table's slots are filled by the dynamic linker, at load time or when a function is called first. A slot is only
// changed when it is certain that it leads, or would lead at its first call, to the one function that the replacement
// calls in its turn; so whoever stands between (a preloaded library) stays between. Everything else is left alone:
// slots that lead elsewhere (another version, another namespace), pointers to functions in data, calls inside one
// object, objects whose tables make no sense.
//
// A changed slot keeps its value until the process ends. Putting it back could take away what somebody else has
// changed since, and would gain two instructions for each call. Threads may call through a slot at any time: it is one
// aligned word.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memprot_import {
    const char *name;
    uintptr_t replacement;
    _Atomic(uintptr_t) original; // what the replacement calls; 0: not known, and nothing leads to the replacement
    bool contested;              // more than one loaded object offers the function
};

/// Leaves the object that holds @p code as it is: one that belongs to memprot and is not this very library, which is
/// left alone of itself. Before anything is changed; nothing once there are eight of them.
void memprot_imports_leave_alone(uintptr_t code);

/// Finds the originals. Once, before anything is changed.
void memprot_imports_prepare(struct memprot_import *imports, size_t count);

/// Changes the slots of every loaded object; nothing when another thread is at it. Not for signal handlers.
/// @param[in,out] loads_seen of these imports, 0 at first: how many objects had been loaded.
void memprot_imports_redirect(struct memprot_import *imports, size_t count, _Atomic uint64_t *loads_seen);

/// Whether no object was loaded since. Takes some 20 ns. Not for signal handlers.
bool memprot_imports_are_redirected(const _Atomic uint64_t *loads_seen);
