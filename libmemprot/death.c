// The process is about to die of a fault: somebody has to say why.
#include "death.h"

#include "reporter.h"
#include "stack_overflow.h"

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

// What the telling thread has got to. Where it faults itself (a broken stack misleads the unwinder), it goes on behind
// what went wrong, with what it knows by then.
enum stage { FILLING, DESCRIBING, DYING, DONE };
static struct {
    struct memprot_record *record;
    struct memprot_overlay *overlay;
    ucontext_t *context;
    enum stage stage;
} told;

// May run in a signal handler.
static void tell(siginfo_t *info) {
    const struct memprot_fault_hooks *to = memprot_fault_current_hooks();
    while (to && told.stage != DONE) {
        switch (told.stage++) {
        case FILLING:
            if (told.record) {
                told.record->stack_overflow = memprot_is_stack_overflow(info, told.context);
                memprot_fault_fill(told.record, info, told.context, told.overlay);
            }
            break;
        case DESCRIBING:
            if (told.record)
                to->describe(told.record, MEMPROT_POLICY_DIE);
            break;
        case DYING:
            to->die(told.record, told.overlay != NULL, told.context);
            break;
        case DONE:
            break;
        }
    }
    atomic_store(&teller, NOBODY_ANY_MORE);
}

// May run in a signal handler.
void memprot_fault_tell_death(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay) {
    if (!memprot_fault_current_hooks())
        return;
    if (is_first_to_tell()) {
        told.record = memprot_record_begin(true);
        told.overlay = overlay;
        told.context = context;
        told.stage = FILLING;
    } else if (atomic_load(&teller) != memprot_fault_thread()) {
        return;
    }
    tell(info);
}

// May run in a signal handler.
void memprot_fault_tell_end(struct memprot_record *record, struct memprot_overlay *overlay) {
    if (!memprot_fault_current_hooks())
        memprot_reporter_tell_death(record, true, NULL);
    if (!memprot_fault_current_hooks() || !is_first_to_tell())
        return;
    told.record = record;
    told.overlay = overlay;
    told.context = NULL;
    told.stage = DESCRIBING;
    tell(NULL);
}
