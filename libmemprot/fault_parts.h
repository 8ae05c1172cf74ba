// What the parts of the engine share: fault.c recovers from forbidden accesses, fault_bus.c from memory that cannot be
// given, death.c tells of what nobody recovers from.
#pragma once

#include "fault.h"

#include <ucontext.h>

/// A fault that continues the last one (the next page of the same copy) belongs to the same record.
struct memprot_burst {
    struct memprot_record *record;
    uint64_t sequence;
    size_t window;
};

/// What an access was let through onto.
struct memprot_let_through {
    struct memprot_overlay *overlay; // NULL: no pages of an overlay were opened
    size_t first, count;
    struct memprot_hole *hole; // or NULL
};

/// The calling thread's last. May run in a signal handler.
struct memprot_burst *memprot_fault_burst(void);

/// NULL for none. May run in a signal handler.
const struct memprot_fault_hooks *memprot_fault_current_hooks(void);

/// Writes down what is known of a fault; @p overlay answers for its address, or is NULL. May run in a signal handler.
void memprot_fault_fill(struct memprot_record *record, const siginfo_t *info, ucontext_t *context,
                        struct memprot_overlay *overlay);

/// Whether the access is worth trying again, because somebody else has resolved it or is about to: false when it has
/// made no progress for long. May run in a signal handler.
bool memprot_fault_try_again(ucontext_t *context, uintptr_t address);

/// Writes down what was let through, and has it delivered; takes it back when that cannot be done.
/// @param rights as memprot_fault_grant() takes them.
/// @return whether the access may go on. May run in a signal handler.
bool memprot_fault_tell(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay,
                        const struct memprot_ruling *ruling, const struct memprot_let_through *opened,
                        unsigned *rights);
