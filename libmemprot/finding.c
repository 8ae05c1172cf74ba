#include "finding.h"

#include "backtrace.h"
#include "death.h"
#include "epoch.h"
#include "fault.h"
#include "fault_pardon.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

static void fill(struct memprot_record *record, const struct memprot_discovery *found, int signal) {
    record->thread = memprot_fault_thread();
    record->signal = signal;
    record->code = 0;
    record->key = MEMPROT_NO_KEY;
    record->access = MEMPROT_WRITE;
    record->address = found->address;
    record->size = found->size;
    record->contexts = 0;
    record->guard = true;
    record->finding = found->what;
    record->block = found->block;
    record->value_size = found->size < sizeof record->value ? (uint32_t)found->size : sizeof record->value;
    if (record->value_size)
        memcpy(record->value, found->bytes, record->value_size);
    if (memprot_fault_in_main_thread() || prctl(PR_GET_NAME, record->name) < 0)
        record->name[0] = '\0';
    record->pcs = memprot_backtrace(found->caller, record->pc, NULL, MEMPROT_RECORD_PCS, NULL);
}

static struct memprot_record *record_of(const struct memprot_discovery *found, const struct memprot_ruling *ruling) {
    struct memprot_record *record = memprot_record_begin(false);
    if (record)
        return record;
    record = memprot_record_hold_similar(memprot_fault_thread(), found->overlay, ruling);
    if (!record)
        return memprot_record_begin(true);
    record->folded++;
    memprot_record_count(record);
    memprot_record_unhold(record);
    return NULL;
}

static _Noreturn void die(const struct memprot_discovery *found) {
    struct memprot_record *record = memprot_record_begin(true);
    if (record)
        fill(record, found, SIGABRT);
    memprot_fault_tell_end(record, found->overlay);
    abort();
}

static void look_for_pardon(const struct memprot_discovery *found, struct memprot_ruling *ruling) {
    struct memprot_record *record = memprot_record_begin(true);
    if (!record)
        return;
    fill(record, found, 0);
    (void)memprot_fault_pardon(record, ruling);
    memprot_record_free(record);
}

void memprot_finding_tell(const struct memprot_discovery *found) {
    struct memprot_ruling ruling = memprot_fault_rule(found->overlay);
    if (memprot_fault_may_pardon(&ruling))
        look_for_pardon(found, &ruling);
    if (!memprot_policy_recovers(ruling.policy))
        die(found);
    int token = memprot_epoch_enter();
    struct memprot_record *record = record_of(found, &ruling);
    if (record) {
        fill(record, found, 0);
        memprot_fault_report(record, &ruling);
    }
    memprot_epoch_leave(token);
}
