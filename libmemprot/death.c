// The process is about to die of a fault: somebody has to say why.
#include "death.h"

#include "chain.h"

#include <sched.h>

// Who tells why the process dies: nobody yet, a thread by its id, or NOBODY_ANY_MORE when it has been told.
enum { NOBODY_YET = 0, NOBODY_ANY_MORE = -1 };
static atomic_int teller;

// Another thread that faults meanwhile must not end the process before the first has told why; a fault of the telling
// thread itself must. May run in a signal handler.
static bool is_first_to_tell(void) {
    int nobody = NOBODY_YET, thread = memprot_fault_thread();
    if (atomic_compare_exchange_strong(&teller, &nobody, thread))
        return true;
    while (atomic_load(&teller) != NOBODY_ANY_MORE && atomic_load(&teller) != thread)
        sched_yield();
    return false;
}

// May run in a signal handler.
void memprot_fault_tell_death(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay) {
    const struct memprot_fault_hooks *to = memprot_fault_current_hooks();
    if (to && memprot_chain_is_final(info->si_signo) && is_first_to_tell()) {
        struct memprot_record *record = memprot_record_begin(true);
        if (record) {
            memprot_fault_fill(record, info, context, overlay);
            to->describe(record, MEMPROT_POLICY_DIE);
        }
        to->die(record, overlay != NULL, context);
        atomic_store(&teller, NOBODY_ANY_MORE);
    }
}
