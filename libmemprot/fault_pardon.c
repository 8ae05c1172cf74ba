#include "fault_pardon.h"

#include "fault_parts.h"
#include "suppression.h"

// Memory that says of itself that its faults end the process has its reasons. May run in a signal handler.
bool memprot_fault_may_pardon(const struct memprot_ruling *ruling) {
    return ruling->policy == MEMPROT_POLICY_ABORT && ruling->source == MEMPROT_SOURCE_PROCESS &&
           memprot_suppressions_are_any();
}

// May run in a signal handler.
bool memprot_fault_pardon(struct memprot_record *record, struct memprot_ruling *ruling) {
    const struct memprot_fault_hooks *to = memprot_fault_current_hooks();
    if (to)
        to->describe(record, ruling->policy);
    bool known = memprot_suppression_of(record) != NULL;
    record->interpreted = false;
    record->text_length = 0;
    record->contexts = 0;
    if (known)
        ruling->policy = MEMPROT_POLICY_DISCARD;
    return known;
}

// May run in a signal handler.
void memprot_fault_look_for_pardon(const siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay,
                                   struct memprot_ruling *ruling) {
    struct memprot_record *record = memprot_fault_may_pardon(ruling) ? memprot_record_begin(true) : NULL;
    if (!record)
        return;
    memprot_fault_fill(record, info, context, overlay);
    (void)memprot_fault_pardon(record, ruling);
    memprot_record_free(record);
}
