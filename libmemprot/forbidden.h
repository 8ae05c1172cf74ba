// Whether an address is memprot's to answer for, and which byte of a buffer it forbids.
#pragma once

#include "overlay.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Which overlay answers for an address, or NULL. Within an epoch (memprot_epoch_enter). May run in a signal handler.
struct memprot_overlay *memprot_overlay_at(uintptr_t address);

struct memprot_forbidden {
    uintptr_t address;
    struct memprot_overlay *overlay;
    int signal; // that an instruction would get: SIGBUS where the file beneath has no bytes, else SIGSEGV
};

/// Whether any byte of [start, stop) is memprot's to answer for. Cheap. Within an epoch. May run in a signal handler.
bool memprot_forbidden_is_possible(uintptr_t start, uintptr_t stop);

/// Looks for the first byte of [start, stop) that forbids reading, or writing, and is memprot's to answer for. The
/// kernel is asked what protection there is. Within an epoch (memprot_epoch_enter). May run in a signal handler.
bool memprot_forbidden_find(uintptr_t start, uintptr_t stop, bool write, struct memprot_forbidden *ret);
